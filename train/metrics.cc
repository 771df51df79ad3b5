#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/error.h"
#include "train/file_io.h"

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

// The shortest text that reads back as the same number, always with a point or an exponent, so
// that every reader takes it for a float.
std::string number_text(double value, const char* not_finite) {
  if (!std::isfinite(value)) return not_finite;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string list_text(const std::vector<double>& list, const char* not_finite, char separator) {
  std::string text;
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) text += separator;
    text += number_text(list[i], not_finite);
  }
  return text;
}

// Text that is not UTF-8 must not stop a run; its wrong bytes become U+FFFD.
std::string quoted_json(const std::string& text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string json_text(const Value& value) {
  if (const auto* number = std::get_if<double>(&value)) return number_text(*number, "null");
  if (const auto* whole = std::get_if<int64_t>(&value)) return std::to_string(*whole);
  if (const auto* text = std::get_if<std::string>(&value)) return quoted_json(*text);
  return "[" + list_text(std::get<std::vector<double>>(value), "null", ',') + "]";
}

// RFC 4180: quotes where a comma, a quote or a line end would be misread.
std::string quoted_csv(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_text(const Value& value) {
  if (const auto* number = std::get_if<double>(&value)) return number_text(*number, "");
  if (const auto* whole = std::get_if<int64_t>(&value)) return std::to_string(*whole);
  if (const auto* text = std::get_if<std::string>(&value)) return quoted_csv(*text);
  return list_text(std::get<std::vector<double>>(value), "nan", ' ');
}

bool belongs(const json& line, int64_t last_step) {
  if (!line.is_object()) return false;
  const auto step = line.find("step");
  return step == line.end() ||
         (step->is_number() && step->get<double>() <= static_cast<double>(last_step));
}

}  // namespace

std::string json_line(const Fields& fields) {
  std::set<std::string> keys;
  std::string line = "{";
  for (const auto& [key, value] : fields) {
    check(!key.empty() && keys.insert(key).second, ErrorKind::kInternal,
          "metrics: empty or repeated key \"", key, "\"");
    line += (line.size() > 1 ? ", " : "") + quoted_json(key) + ": " + json_text(value);
  }
  return line + "}";
}

Metrics::Metrics(const std::string& run_dir, std::optional<int64_t> resume_step)
    : run_dir_(run_dir), path_((std::filesystem::path(run_dir) / "metrics.jsonl").string()) {
  make_folders(run_dir);
  std::error_code missing;
  const auto size = std::filesystem::file_size(path_, missing);
  if (!missing && size > 0) {
    check(resume_step.has_value(), ErrorKind::kValue, path_,
          ": a run has written here already; resume it (--resume) or choose another --out");
    drop_after(*resume_step);
  }
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) fail_io(path_, "write", errno);
  bytes_ = static_cast<int64_t>(::lseek(file_, 0, SEEK_END));
}

Metrics::~Metrics() { ::close(file_); }

void Metrics::drop_after(int64_t step) {
  const std::string all = read_file(path_, int64_t{1} << 32);
  std::string kept;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = all.find('\n', begin);
    const std::string line = all.substr(begin, end - begin);
    const json parsed = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (end != std::string::npos && belongs(parsed, step)) {
      kept += line + "\n";
      if (parsed.value("kind", json()) == "eval") last_evaluation_ = parsed.value("step", -1);
    } else {
      ++dropped_;
    }
    begin = end == std::string::npos ? all.size() : end + 1;
  }
  if (dropped_ > 0) write_file(path_, kept);
}

void Metrics::write(const Fields& fields) {
  const std::string line = json_line(fields) + "\n";
  const auto size = static_cast<int64_t>(line.size());
  int64_t done = 0;
  while (done < size) {
    const int64_t n = ::write(file_, line.data() + done, static_cast<size_t>(size - done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error_number = n < 0 ? errno : EIO;
      // If even this fails, resuming drops the half line.
      if (done > 0) (void)!::ftruncate(file_, bytes_);
      fail_io(path_, "write", error_number);
    }
    done += n;
  }
  bytes_ += size;
}

void Metrics::write_summary(const Fields& fields) const {
  std::string text = "key,value\n";
  for (const auto& [key, value] : fields) text += quoted_csv(key) + "," + csv_text(value) + "\n";
  write_file((std::filesystem::path(run_dir_) / "summary.csv").string(), text);
}

void Metrics::flush() {
  while (::fsync(file_) < 0) {
    if (errno != EINTR) fail_io(path_, "write", errno);
  }
}

}  // namespace train
