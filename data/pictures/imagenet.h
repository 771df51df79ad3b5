#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// ImageNet (ILSVRC2012) as it is unpacked: PATH/train/WNID/*.JPEG, and for the test split the
// validation pictures, either PATH/val/WNID/*.JPEG or flat in PATH/val with a label file
// (pictures_by_label_file in folders.h): the one that ",labels=FILE" behind PATH names, else the
// first that is there of PATH/val_annotations.txt, PATH/LOC_val_solution.csv,
// PATH/imagenet_2012_validation_synset_labels.txt and PATH/val.txt. Classes are the training
// folders, sorted. Flat pictures are in the order of their names, others in that of `evenly`.
//
// With `options.classes` the training folder is not needed. Error as image_folder.h.
std::unique_ptr<Dataset> open_imagenet(const std::string& path, Split split,
                                       const OpenOptions& options);

// Tiny-ImageNet as it is unpacked: PATH/train/WNID/images/*.JPEG, and for the test split
// PATH/val/images/*.JPEG with PATH/val/val_annotations.txt. The rest as above.
std::unique_ptr<Dataset> open_tiny_imagenet(const std::string& path, Split split,
                                            const OpenOptions& options);

}  // namespace data
