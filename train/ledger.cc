#include "train/ledger.h"

#include <algorithm>
#include <vector>

namespace train {
namespace {

// Paper: Pairwise Router Consistency, OJSP 2025. Code: its published fork of V-MoE, and where that
// has none of its own, V-MoE's; values of the pre-training on ImageNet unless said. Rows that name
// Robust Experts are of that system's paper and code.
constexpr LedgerRow kLedger[] = {
    {"model.image_size", "384", "128", "fine-tuning on CIFAR: paper IV-A; fork prc_cifar100_ft.py"},
    {"moe.dispatch", "", "\"capacity\"", "vmoe moe.py"},
    {"moe.eval_capacity_factor", "", "4.0", "the same; 1.5 after fine-tuning"},
    {"moe.bf16_dispatch", "", "true", "vmoe configs; spec 2.4"},
    {"moe.expert_init", "", "\"identical\"", "vmoe configs/vmoe_paper/common.py, split_rngs=False"},
    {"moe.dropout_mask", "", "\"slot\"", "the same: one mask for all experts"},
    {"moe.expert_dropout", "", "0.2", "vmoe vmoe_s32_last2_ilsvrc2012_randaug_light1.py"},
    {"moe.importance_weight", "0.005", "0.0", "baseline: paper Table 1; with PRC the fork has 0"},
    {"moe.load_weight", "0.005", "0.0", "the same"},
    {"prc.form", "\"paper\"", "\"fork\"", "paper Eq. 4; fork nn/routing.py"},
    {"prc.router", "\"noisy\"", "\"clean\"",
     "paper Eq. 1 has the noise inside; fork nn/routing.py"},
    {"prc.class_token", "", "false", "fork prc_cifar100_ft.py and pets; true on ImageNet"},
    {"data.jpeg", "", "\"fast\"", "the default of tf.io.decode_jpeg"},
    {"data.train_split", "", "\"train[:99%]\"", "fork prc_ilsvrc2012_full.py; 98 % of CIFAR"},
    {"augment.randaugment", "", "\"prc\"",
     "fork data/autoaugment_R.py, magnitude 10; \"vmoe\" in the baseline"},
    {"augment.mixup", "", "0.2", "vmoe vmoe_s32_last2_ilsvrc2012_randaug_light1.py; off with PRC"},
    {"optimizer.weight_decay", "", "0.1", "fork prc_ilsvrc2012_full.py, kernels only"},
    {"schedule.kind", "\"cosine\"", "\"linear\"", "paper Table 1; fork prc_ilsvrc2012_full.py"},
    {"schedule.peak", "5e-4", "0.00075", "paper Table 1; fork prc_ilsvrc2012_full.py"},
    {"train.loss", "", "\"sigmoid\"", "vmoe; softmax in fine-tuning"},
    {"adversarial.attack_mode", "", "\"train\"", "Robust Experts: eval() reaches a wrapper only"},
    {"adversarial.drop_start", "", "true", "Robust Experts: src/models/adv_train_fast_lit.py"},
};

const LedgerRow* row_of(std::string_view key) {
  const auto* at = std::ranges::find(kLedger, key, &LedgerRow::key);
  return at == std::end(kLedger) ? nullptr : at;
}

std::string or_unsaid(std::string_view value) {
  return value.empty() ? "not said" : std::string(value);
}

}  // namespace

std::span<const LedgerRow> ledger() { return kLedger; }

std::string ledger_note(const Field& field) {
  const LedgerRow* row = row_of(field.key);
  if (row == nullptr) return "";
  const std::string value = toml_value(field);
  const bool paper = value == row->paper, code = value == row->code;
  return "paper: " + or_unsaid(row->paper) + "; code: " + or_unsaid(row->code) + "; here " +
         (paper && code ? "as both"
          : paper       ? "as the paper"
          : code        ? "as the code"
                        : "neither");
}

std::string ledger_table() {
  Config config;
  std::string text =
      "| setting | paper | published code | our default | where it says so |\n"
      "| --- | --- | --- | --- | --- |\n";
  for (const LedgerRow& row : kLedger) {
    const Field field = find_field(config, std::string(row.key), "ledger");
    const auto cell = [&text](const std::string& value) { text += " " + value + " |"; };
    text += "| `" + std::string(row.key) + "` |";
    cell(or_unsaid(row.paper));
    cell(or_unsaid(row.code));
    cell(toml_value(field));
    cell(std::string(row.note));
    text += "\n";
  }
  return text;
}

}  // namespace train
