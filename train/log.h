#pragma once

#include <cstdio>
#include <mutex>
#include <string>

// What a person reads while a run goes on.
namespace train {

// Prints to standard output and appends to RUN/log.txt, there with the time of day, which no
// other file of a run holds. On a terminal progress is one line that is redrawn; elsewhere one
// line an interval. May be called from several threads.
class Log {
 public:
  // An empty run_dir: no file. Makes the folder if need be; Error(kIo) if it cannot.
  explicit Log(const std::string& run_dir, std::FILE* out = stdout);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // A line that stays.
  void line(const std::string& text);
  // Once an interval: goes to the file; on a terminal it becomes the live line.
  void interval(const std::string& text);
  // At any time: redraws the live line of a terminal, does nothing elsewhere.
  void live(const std::string& text);
  // Whether live() would show something: then, and at most about ten times a second, is a text
  // worth making.
  bool wants_live() const;

 private:
  void append(const std::string& text);
  void redraw(const std::string& text);
  void clear_live();

  std::FILE* out_;
  std::FILE* file_ = nullptr;
  std::string path_;
  bool terminal_ = false;
  bool live_shown_ = false;
  bool file_failed_ = false;
  double last_live_s_ = -1.0;
  mutable std::mutex mutex_;
};

}  // namespace train
