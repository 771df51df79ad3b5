#include "tools/commands/command.h"

namespace tools {
namespace {

constexpr Command kCommands[] = {
    {"train", "train a model from a recipe, or continue a run", &run_train},
    {"eval", "measure the accuracy and loss of a trained model", &run_eval},
    {"audit", "look inside the MoE layers: match, load, confidence, noise", &run_audit},
    {"attack", "accuracy under attack: noise, FGSM, PGD, APGD", &run_attack},
    {"predict", "classify pictures and show which experts their patches go to", &run_predict},
    {"compare", "one table from several runs", &run_compare},
    {"report", "one HTML page that shows why experts were chosen and when they flip", &run_report},
    {"export", "write a model as timm or torchvision has it", &run_export},
    {"data", "what a data set holds, whether its files are whole; pack it", &run_data},
    {"bench", "measure the speed of training steps, or of the loader", &run_bench},
    {"doctor", "what this machine gives, and how long a recipe would take on it", &run_doctor},
    {"recipes", "list the recipes, or print one with every value and its source", &run_recipes},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

const char* program_version() { return ROBUSTMOE_VERSION; }

}  // namespace tools
