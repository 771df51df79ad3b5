#pragma once

#include <iosfwd>
#include <span>
#include <string>

#include "train/config.h"

namespace tools {

// A verb of the program. argv[0] is the verb itself; what run() returns is the exit code.
struct Command {
  const char* name;
  const char* summary;
  int (*run)(int argc, char** argv);
};

// All verbs there are, in the order of --help.
std::span<const Command> commands();

const char* program_version();
// How this program was built, a fact a line: compiler, instruction set, libraries, devices.
std::string build_facts();
// Its CUDA backend: "none", "nvcc" or "emulated".
std::string cuda_of_build();

// Each verb, in the file of its name.
int run_attack(int argc, char** argv);
int run_report(int argc, char** argv);
int run_compare(int argc, char** argv);
int run_bench(int argc, char** argv);
int run_train(int argc, char** argv);
int run_eval(int argc, char** argv);
int run_audit(int argc, char** argv);
int run_predict(int argc, char** argv);
int run_data(int argc, char** argv);
int run_export(int argc, char** argv);
int run_doctor(int argc, char** argv);
int run_recipes(int argc, char** argv);

// Everything about one config: what `recipes NAME` prints.
void print_recipe(const train::Config& config, std::ostream& out);

}  // namespace tools
