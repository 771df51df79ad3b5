// The program: finds the verb, runs it, turns what went wrong into one line and an exit code.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <exception>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "data/names.h"
#include "engine/core/cpu_features.h"
#include "engine/core/error.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"

namespace {

constexpr int kDone = 0, kFailed = 1, kWrongUsage = 2;

void print_help(std::ostream& out) {
  out << "robustmoe " << tools::program_version()
      << ": robust sparse mixture-of-experts vision models\n\n"
         "usage: robustmoe VERB [options]\n\n";
  for (const tools::Command& command : tools::commands())
    out << "  " << std::left << std::setw(10) << command.name << "  " << command.summary << "\n";
  out << "\nrobustmoe VERB --help shows the options of a verb.\n";
}

int run_verb(int argc, char** argv) {
  const std::string verb = argv[1];
  std::vector<std::string> names;
  for (const tools::Command& command : tools::commands()) {
    if (verb == command.name) return command.run(argc - 1, argv + 1);
    names.emplace_back(command.name);
  }
  throw tools::UsageError("there is no verb " + verb + "; the nearest is " +
                          data::nearest_name(verb, names));
}

int run(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty()) throw tools::UsageError("a verb is missing");
  if (first == "--help" || first == "-h") {
    print_help(std::cout);
    return kDone;
  }
  if (first == "--version") {
    std::cout << "robustmoe " << tools::program_version() << "\n" << tools::build_facts();
    return kDone;
  }
  return run_verb(argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  // A limit on file sizes is then an error like a full disk, not a silent end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    engine::usable_isa();  // a wrong setting is told before any work
    const int status = run(argc, argv);
    std::cout.flush();
    engine::check(std::cout.good(), engine::ErrorKind::kIo,
                  "standard output cannot be written: is the disk full?");
    return status;
  } catch (const tools::UsageError& error) {
    std::cerr << "robustmoe: " << tools::one_line(error.what()) << " (see robustmoe --help)\n";
    return kWrongUsage;
  } catch (const engine::Error& error) {
    std::cerr << "robustmoe: " << tools::one_line(error.message()) << "\n";
  } catch (const std::bad_alloc&) {
    std::cerr << "robustmoe: the memory of this machine does not suffice\n";
  } catch (const std::exception& error) {
    std::cerr << "robustmoe: " << tools::one_line(error.what()) << "\n";
  }
  return kFailed;
}
