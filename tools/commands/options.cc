// The only file that knows the command-line library.
#include "tools/commands/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cxxopts.hpp>
#include <iostream>
#include <optional>

#include "data/names.h"

namespace tools {

struct Options::Parser {
  explicit Parser(const std::string& program, const std::string& summary)
      : options(program, summary) {}
  cxxopts::Options options;
  std::optional<cxxopts::ParseResult> result;
};

Options::Options(std::string verb, const std::string& summary)
    : verb_(std::move(verb)), parser_(std::make_unique<Parser>("robustmoe " + verb_, summary)) {
  // Unknown options are reported here, with the nearest name.
  parser_->options.allow_unrecognised_options().custom_help("[options]");
  parser_->options.set_width(100);
  add_flag("help", "show this and stop");
}

Options::Options(Options&&) noexcept = default;
Options::~Options() = default;

void Options::add_flag(const std::string& name, const std::string& help) {
  parser_->options.add_options()(name == "help" ? "h,help" : name, help);
  names_.push_back("--" + name);
  flags_.push_back(name);
}

void Options::add_value(const std::string& name, const std::string& help,
                        const std::string& default_value, const std::string& placeholder) {
  auto value = cxxopts::value<std::string>();
  if (!default_value.empty()) value = value->default_value(default_value);
  parser_->options.add_options()(name, help, value, placeholder);
  names_.push_back("--" + name);
}

void Options::add_positional(const std::string& placeholder, const std::string& help, size_t most) {
  parser_->options.custom_help("[options] " + placeholder + "\n\n  " + placeholder + ": " + help);
  most_positional_ = most;
}

bool Options::parse(int argc, const char* const* argv) {
  try {
    parser_->result = parser_->options.parse(argc, argv);
  } catch (const cxxopts::exceptions::exception& error) {
    throw UsageError(verb_ + ": " + error.what());
  }
  for (const cxxopts::KeyValue& option : parser_->result->arguments()) {
    if (option.value().empty()) throw UsageError(verb_ + ": --" + option.key() + " has no value");
    const bool flag = std::ranges::find(flags_, option.key()) != flags_.end();
    if (flag && option.value() != "true") {
      throw UsageError(verb_ + ": --" + option.key() + " takes no value");
    }
  }
  if (has("help")) {
    std::cout << parser_->options.help();
    return false;
  }
  take_unmatched(parser_->result->unmatched());
  return true;
}

// What belongs to no option: arguments, or a misspelt option.
void Options::take_unmatched(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument.size() > 1 && argument[0] == '-') {
      const std::string name = argument.substr(0, argument.find('='));
      throw UsageError(verb_ + ": there is no option " + name + "; the nearest is " +
                       data::nearest_name(name, names_));
    }
    if (positional_.size() == most_positional_)
      throw UsageError(verb_ + ": unexpected argument " + argument);
    positional_.push_back(argument);
  }
}

bool Options::has(const std::string& name) const { return parser_->result->count(name) > 0; }

std::string Options::get(const std::string& name) const {
  const std::vector<std::string> given = all(name);
  if (!given.empty()) return given.back();
  for (const cxxopts::KeyValue& option : parser_->result->defaults())
    if (option.key() == name) return option.value();
  return "";
}

std::string Options::required(const std::string& name) const {
  const std::string value = get(name);
  if (value.empty()) throw UsageError(verb_ + ": --" + name + " is required");
  return value;
}

std::vector<std::string> Options::all(const std::string& name) const {
  std::vector<std::string> values;
  for (const cxxopts::KeyValue& option : parser_->result->arguments())
    if (option.key() == name) values.push_back(option.value());
  return values;
}

namespace {

// The whole text as a number.
template <class T>
std::optional<T> parsed(const std::string& text) {
  T value{};
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = result.ec == std::errc() && result.ptr == text.data() + text.size();
  return whole ? std::optional<T>(value) : std::nullopt;
}

}  // namespace

int64_t Options::integer(const std::string& name) const {
  const std::string text = required(name);
  const auto value = parsed<int64_t>(text);
  if (!value) throw UsageError(verb_ + ": --" + name + " is " + text + ", expected an integer");
  return *value;
}

int64_t Options::integer(const std::string& name, int64_t least, int64_t most) const {
  const int64_t value = integer(name);
  if (value >= least && value <= most) return value;
  throw UsageError("--" + name + " is " + std::to_string(value) + ", expected an integer from " +
                   std::to_string(least) + " to " + std::to_string(most));
}

double Options::number(const std::string& name) const {
  const std::string text = required(name);
  const auto value = parsed<double>(text);
  if (!value || !std::isfinite(*value))
    throw UsageError(verb_ + ": --" + name + " is " + text + ", expected a number");
  return *value;
}

}  // namespace tools
