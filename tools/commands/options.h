#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace tools {

// The command line itself is wrong: main prints it with a hint and exits 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The options of one verb. Values are kept as they were written, commas included, and --help
// is always there.
//
//   Options options("eval", "measure a checkpoint");
//   options.add_value("checkpoint", "run directory", "", "DIR");
//   if (!options.parse(argc, argv)) return 0;  // --help was asked for and printed
//   load(options.required("checkpoint"));
class Options {
 public:
  Options(std::string verb, const std::string& summary);
  Options(Options&&) noexcept;
  ~Options();

  void add_flag(const std::string& name, const std::string& help);
  // An empty default means that the option has none.
  void add_value(const std::string& name, const std::string& help,
                 const std::string& default_value = "", const std::string& placeholder = "VALUE");
  // Arguments without a name, such as IMAGE; without this call they are refused.
  void add_positional(const std::string& placeholder, const std::string& help, size_t most);

  // False when --help was given and printed. argv[0] is the verb. Throws UsageError.
  bool parse(int argc, const char* const* argv);

  bool has(const std::string& name) const;              // given on the command line?
  std::string get(const std::string& name) const;       // the last one given, or the default
  std::string required(const std::string& name) const;  // UsageError where there is none
  std::vector<std::string> all(const std::string& name) const;  // each one given, in order
  int64_t integer(const std::string& name) const;               // UsageError where it is none
  // UsageError unless it is from `least` to `most`, too.
  int64_t integer(const std::string& name, int64_t least, int64_t most) const;
  double number(const std::string& name) const;  // UsageError where it is none
  const std::vector<std::string>& positional() const { return positional_; }

 private:
  struct Parser;  // keeps the library out of this header
  void take_unmatched(const std::vector<std::string>& arguments);

  std::string verb_;
  std::unique_ptr<Parser> parser_;
  std::vector<std::string> names_, flags_, positional_;
  size_t most_positional_ = 0;
};

}  // namespace tools
