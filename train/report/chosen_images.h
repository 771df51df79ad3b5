#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"

namespace train {

// `count` of `size` images, evenly apart, so that sets sorted by class show many classes; all where
// there are no more.
std::vector<int64_t> spread_images(int64_t size, int64_t count);

// Calls use(k, batch) for every chosen image: the batch of its own that an evaluation stream of
// these options has at this place, so that its views are those of evaluations and audits.
template <class Use>
void for_each_chosen(const data::Dataset& dataset, data::LoaderOptions options,
                     const std::vector<int64_t>& chosen, Use&& use) {
  options.batch = 1;
  options.workers = 0;
  options.limit = 0;
  for (size_t k = 0; k < chosen.size(); ++k) {
    data::Loader loader(dataset, options, chosen[k], data::Stream::kEvaluation);
    use(static_cast<int64_t>(k), *loader.next());
  }
}

}  // namespace train
