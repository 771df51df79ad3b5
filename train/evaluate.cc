#include "train/evaluate.h"

#include <algorithm>

#include "nn/module.h"
#include "train/model.h"
#include "train/multi_labels.h"

namespace train {

using engine::check;
using engine::CrossEntropy;
using engine::Device;
using engine::ErrorKind;
using engine::Tensor;

bool depends_on_neighbours(const Config& config) {
  return is_vit(config) && vmoe_config(config).moe.mixes_images_at_evaluation();
}

Tensor Inference::filled_up(const Tensor& images) {
  const int64_t group = network_.dependent_images(), count = images.shape()[0];
  if (group == 0 || count % group == 0) return images;
  const int64_t full = (count + group - 1) / group * group;
  const engine::Shape shape{full, images.shape()[1], images.shape()[2], images.shape()[3]};
  if (!filled_.tensor().defined() || filled_.tensor().shape() != shape ||
      filled_.tensor().device() != images.device()) {
    filled_ = engine::Buffer(shape, images.dtype(), images.device());
  }
  const Device device = images.device();
  float* const all = filled_.data<float>();
  engine::device_copy(device, all, device, images.raw(), images.bytes());
  engine::device_zero(device, all + images.numel(), filled_.tensor().bytes() - images.bytes());
  return filled_.tensor();
}

void Inference::forward(const Tensor& images) {
  tape_.clear();
  arena_.reset();
  host_arena_.reset();
  nn::Forward f{.tape = tape_,
                .mode = nn::Mode::kEval,
                .param_grads = false,
                .precision = network_.precision(),
                .sample_ids = {}};
  network_.forward(f, tape_.input(engine::brought_to(arena_, filled_up(images))), output_);
}

const moe::ModelOutput& Inference::run(const Tensor& images) {
  forward(images);
  if (network_.device() == engine::Device::kCpu) return output_;
  on_host_.logits = engine::brought_to(host_arena_, output_.logits);
  on_host_.routings.clear();
  for (const moe::Routing& r : output_.routings) {
    on_host_.routings.push_back(moe::on_host(r, host_arena_));
  }
  return on_host_;
}

Tensor Inference::logits(const Tensor& images) {
  forward(images);
  return engine::brought_to(host_arena_, output_.logits);
}

Tensor Inference::logits(const data::Batch& batch, const Config& config, data::Loader& loader) {
  forward(batch_.show(batch, config));
  batch_.start_next(loader);
  return engine::brought_to(host_arena_, output_.logits);
}

CrossEntropy classification_loss(const Config& config) {
  return config.train.loss == "sigmoid" ? CrossEntropy::kSigmoid : CrossEntropy::kSoftmax;
}

namespace {

// log(1 + e^x) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

double image_loss(const float* logits, int64_t classes, int32_t label, CrossEntropy kind) {
  double sum = 0;
  if (kind == CrossEntropy::kSigmoid) {
    for (int64_t c = 0; c < classes; ++c) sum += softplus(logits[c]);
    return sum - logits[label];
  }
  const double largest = *std::max_element(logits, logits + classes);
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(logits[c] - largest);
  return largest + std::log(sum) - logits[label];
}

int32_t predicted_class(const float* logits, int64_t classes) {
  return static_cast<int32_t>(std::max_element(logits, logits + classes) - logits);
}

void EvaluationSum::add(const Tensor& logits, std::span<const int32_t> labels) {
  const int64_t classes = logits.shape()[1];
  const float* row = logits.data<const float>();
  for (const int32_t label : labels) {
    check(label >= 0 && label < classes, ErrorKind::kValue, "evaluation: image ", n_, " has label ",
          label, ", but the model has ", classes, " classes");
    check(std::all_of(row, row + classes, [](float x) { return std::isfinite(x); }),
          ErrorKind::kValue, "evaluation: the model's output for image ", n_,
          " is not finite: its weights have diverged");
    const double loss = image_loss(row, classes, label, kind_);
    correct_ += predicted_class(row, classes) == label ? 1 : 0;
    loss_ += loss;
    loss_square_ += loss * loss;
    ++n_;
    row += classes;
  }
}

Evaluation EvaluationSum::result() const {
  Evaluation e;
  if (n_ == 0) return e;
  const auto n = static_cast<double>(n_);
  e.n = n_;
  e.accuracy = static_cast<double>(correct_) / n;
  e.accuracy_se = share_error(e.accuracy, n_);
  e.loss = loss_ / n;
  const double spread = std::max(0.0, loss_square_ - loss_ * e.loss);
  if (n_ > 1) e.loss_se = std::sqrt(spread / (n * (n - 1)));
  return e;
}

Evaluation evaluate(Inference& inference, const Config& config, data::Loader& loader,
                    const volatile std::sig_atomic_t* stop) {
  EvaluationSum sum(classification_loss(config));
  inference.begin();
  while (const data::Batch* batch = loader.next()) {
    if (stop != nullptr && *stop != 0) break;
    sum.add(inference.logits(*batch, config, loader), batch->labels);
  }
  return sum.result();
}

Evaluation evaluate(const Network& network, const Config& config, const data::Dataset& dataset,
                    MultiLabelSum* several) {
  Inference inference(network);
  data::Loader loader =
      data::Loader::evaluation(dataset, evaluation_loader(config, network.device()));
  if (several == nullptr) return evaluate(inference, config, loader);
  EvaluationSum sum(classification_loss(config));
  while (const data::Batch* batch = loader.next()) {
    const Tensor logits = inference.logits(*batch, config, loader);
    sum.add(logits, batch->labels);
    several->add(logits, dataset, batch->samples);
  }
  return sum.result();
}

}  // namespace train
