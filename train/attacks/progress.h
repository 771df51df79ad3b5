#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "train/attacks/attack.h"
#include "train/file_io.h"
#include "train/metrics.h"

namespace train {

// How far an attack has come, in a file that is replaced as a whole, so that after any end of the
// program it can go on from the last batch and ends with the same result, bit for bit. Images,
// where they are kept, grow in a second file, images_path(). Both are described in
// train/FORMATS.md.
//
// `settings`: everything that the result depends on, each under the name that a person knows. A
// file that is there already must have the same.
class AttackProgress {
 public:
  // Reads the file, if there is one. Error(kFormat) where it is none of an attack or damaged,
  // Error(kValue) naming the settings that differ; both say what to do.
  AttackProgress(const std::string& path, const Fields& settings);

  // Images that are done.
  int64_t done() const { return done_; }

  // What the attack has found so far, with sums over images instead of means; nothing where nothing
  // is done. images: null where they are not kept. Error(kFormat) where a file is damaged.
  void restore(AttackResult& sums, AttackImages* images);
  // Returns when it is on the disk. Error(kIo).
  void save(const AttackResult& sums, const AttackImages* images);

  static std::string images_path(const std::string& path) { return path + ".images"; }

 private:
  void read_images(AttackImages& images) const;
  void append_images(int64_t n, const AttackImages& images);

  std::string path_, settings_;
  std::string state_;  // as in the file; empty: nothing is done
  int64_t done_ = 0;
  size_t pixels_ = 0;  // of an image that is kept
  FileSum images_sum_;
  std::unique_ptr<GrowingFile> images_file_;
};

}  // namespace train
