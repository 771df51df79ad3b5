#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// Oxford Flowers-102 (Nilsback and Zisserman, 2008) as its authors give it:
// PATH/jpg/image_NNNNN.jpg, PATH/imagelabels.mat (`labels`, from 1) and PATH/setid.mat (`trnid`,
// `valid` and `tstid`, numbers of pictures from 1). The training split is trnid, 1,020 pictures,
// with ",train=trnid+valid" behind PATH both, 2,040; the test split is tstid. In the order of their
// numbers in setid.mat. Classes are called by their numbers, from 1.
//
// Error(kIo) for a missing file or picture, Error(kFormat) for numbers that are out of range,
// twice, or do not fit.
std::unique_ptr<Dataset> open_flowers(const std::string& path, Split split,
                                      const OpenOptions& options);

}  // namespace data
