#include "train/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "train/file_io.h"

namespace train {
namespace {

constexpr double kLiveInterval_s = 0.1;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string time_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

// The columns of the terminal; a longer live line would wrap and could not be redrawn.
size_t columns(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Log::Log(const std::string& run_dir, std::FILE* out)
    : out_(out), terminal_(::isatty(::fileno(out)) == 1) {
  if (run_dir.empty()) return;
  make_folders(run_dir);
  path_ = (std::filesystem::path(run_dir) / "log.txt").string();
  file_ = std::fopen(path_.c_str(), "ae");
  if (file_ == nullptr) fail_io(path_, "write", errno);
}

Log::~Log() {
  if (live_shown_) std::fputc('\n', out_);
  if (file_ != nullptr) std::fclose(file_);
}

void Log::line(const std::string& text) {
  const std::lock_guard lock(mutex_);
  clear_live();
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
  append(text);
}

void Log::interval(const std::string& text) {
  const std::lock_guard lock(mutex_);
  if (terminal_) {
    redraw(text);
  } else {
    std::fprintf(out_, "%s\n", text.c_str());
    std::fflush(out_);
  }
  append(text);
}

void Log::live(const std::string& text) {
  const std::lock_guard lock(mutex_);
  if (terminal_) redraw(text);
}

bool Log::wants_live() const {
  const std::lock_guard lock(mutex_);
  return terminal_ && now_s() - last_live_s_ >= kLiveInterval_s;
}

// A log that cannot be written must not stop a run: said once, then printed only.
void Log::append(const std::string& text) {
  if (file_ == nullptr || file_failed_) return;
  const bool written = std::fprintf(file_, "%s %s\n", time_of_day().c_str(), text.c_str()) >= 0 &&
                       std::fflush(file_) == 0;
  if (written) return;
  file_failed_ = true;
  std::fprintf(out_, "%s: cannot write: %s; log lines are printed only from here on\n",
               path_.c_str(), std::strerror(errno));
}

void Log::redraw(const std::string& text) {
  size_t shown_bytes = std::min(text.size(), columns(out_) - 1);
  // Not in the middle of a UTF-8 character.
  while (shown_bytes < text.size() && shown_bytes > 0 && (text[shown_bytes] & 0xC0) == 0x80) {
    --shown_bytes;
  }
  const std::string shown = text.substr(0, shown_bytes);
  std::fprintf(out_, "\r\033[K%s", shown.c_str());
  std::fflush(out_);
  live_shown_ = true;
  last_live_s_ = now_s();
}

// Leaves the cursor at the start of an empty line.
void Log::clear_live() {
  if (live_shown_) std::fputs("\r\033[K", out_);
  live_shown_ = false;
}

}  // namespace train
