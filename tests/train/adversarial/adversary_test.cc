#include "train/adversarial/adversary.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/support/heap_counter.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/attacks/pixel_range.h"
#include "train/evaluate.h"
#include "train/fraction.h"
#include "train/train_step.h"

using engine::Slab;
using engine::Tensor;
using engine::test::caught;
using engine::test::copy_of;
using engine::test::same_bytes;
using train::Adversary;
using train::AttackedModel;
using train::Config;
using train::test::SmallModel;

namespace {

using Settings = std::vector<std::string>;

constexpr const char* kData = "shapes:size=16,train=32,test=32";
constexpr int64_t kPixels = int64_t{3} * 16 * 16;
const Settings kResnet = {
    "model.kind=resnet18",        "model.first_width=4", "moe.layers=none",
    "adversarial.kind=pgd",       "adversarial.steps=3", "augment.mean=0.4,0.5,0.6",
    "augment.stddev=0.2,0.25,0.3"};
const Settings kVit = {"adversarial.kind=pgd", "adversarial.steps=3"};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// Images in [0, 1] as numbers of eighths, and labels.
struct Images {
  explicit Images(const Config& config, int64_t count) : normalised(count * kPixels) {
    const engine::RngKey key(9, engine::Purpose::kTest);
    for (int64_t i = 0; i < count * kPixels; ++i) {
      pixels.push_back(static_cast<float>(key.bits(static_cast<uint64_t>(i)) % 9) / 8);
    }
    train::normalise_pixels(config, pixels, normalised);
    for (int64_t i = 0; i < count; ++i) {
      labels.push_back(static_cast<int32_t>(i * 3 % 10));
      ids.push_back(i);
    }
  }
  Tensor tensor(int64_t begin, int64_t end) {
    return engine::test::view(normalised, {static_cast<int64_t>(ids.size()), 3, 16, 16})
        .rows(begin, end);
  }
  std::vector<float> pixels, normalised;
  std::vector<int32_t> labels;
  std::vector<int64_t> ids;
};

// The adversarial pixels of all images, `at_once` at a time.
std::vector<float> perturbed(const SmallModel& small, Images& images, int64_t at_once,
                             int64_t step = 5) {
  Adversary adversary(small.config, *small.model.network);
  const auto count = static_cast<int64_t>(images.ids.size());
  std::vector<float> all;
  for (int64_t begin = 0; begin < count; begin += at_once) {
    const int64_t end = std::min(count, begin + at_once);
    const auto part = [&](auto& v) {
      return std::span(v).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    const auto x = copy_of<float>(
        adversary.perturb(images.tensor(begin, end), part(images.labels), step, part(images.ids)));
    all.insert(all.end(), x.begin(), x.end());
  }
  std::vector<float> pixels(all.size());
  train::unnormalise_pixels(small.config, all, pixels);
  return pixels;
}

double largest_change(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  }
  return largest;
}

double mean_loss(AttackedModel& model, const std::vector<float>& pixels,
                 const std::vector<int32_t>& labels) {
  const auto logits = model.logits(pixels);
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    sum += train::image_loss(logits.data() + i * 10, 10, labels[i], engine::CrossEntropy::kSoftmax);
  }
  return sum / static_cast<double>(labels.size());
}

}  // namespace

TEST_CASE("adversary: projected gradient descent as one would write it down") {
  for (const Settings& settings : {kResnet, kVit}) {
    const SmallModel small(kData, settings);
    Images images(small.config, 6);
    const std::vector<float> got = perturbed(small, images, 6);
    AttackedModel model(*small.model.network, small.config);
    const train::Ball ball{train::Norm::kLinf, 8.0 / 255};
    std::vector<float> x = images.pixels, gradient(x.size());
    for (size_t i = 0; i < 6; ++i) {
      const engine::RngKey key =
          engine::RngKey(static_cast<uint64_t>(small.config.train.seed), engine::Purpose::kAttack)
              .with(5)
              .with(i);
      ball.draw(std::span(images.pixels).subspan(i * kPixels, kPixels), key,
                std::span(x).subspan(i * kPixels, kPixels));
    }
    const double started = mean_loss(model, x, images.labels);
    for (int t = 0; t < 3; ++t) {
      model.logits_and_gradient(x, images.labels, gradient);
      for (size_t i = 0; i < x.size(); ++i) {
        const double clean = images.pixels[i];
        const double sign = gradient[i] > 0 ? 1 : gradient[i] < 0 ? -1 : 0;
        const double moved = x[i] + 2.0 / 255 * sign;
        x[i] = static_cast<float>(
            std::clamp(std::clamp(moved, clean - 8.0 / 255, clean + 8.0 / 255), 0.0, 1.0));
      }
    }
    // Some pixels may differ by a whole step, where a gradient is a rounding from 0.
    int64_t other = 0;
    for (size_t i = 0; i < x.size(); ++i) other += std::abs(double{x[i]} - double{got[i]}) > 1e-5;
    CHECK(other <= 6 * kPixels / 100);
    CHECK(mean_loss(model, got, images.labels) > started);
    CHECK(largest_change(got, images.pixels) <= 8.0 / 255 + 1e-6);
    CHECK(largest_change(got, images.pixels) > 6.0 / 255);
    CHECK(std::ranges::all_of(got, [](float v) { return v >= 0 && v <= 1; }));
  }
}

TEST_CASE("adversary: another step draws another start, other sizes reach less far") {
  const SmallModel small(kData, kResnet);
  Images images(small.config, 4);
  CHECK(perturbed(small, images, 4, 5) == perturbed(small, images, 4, 5));
  CHECK(perturbed(small, images, 4, 5) != perturbed(small, images, 4, 6));
  const SmallModel weaker(kData, with(kResnet, {"adversarial.eps=0.01"}));
  CHECK(largest_change(perturbed(weaker, images, 4), images.pixels) <= 0.01 + 1e-6);
}

TEST_CASE("adversary: one step, from the start or as published from the image") {
  const SmallModel kept(kData, with(kResnet, {"adversarial.kind=fast", "adversarial.eps=4/255",
                                              "adversarial.step=3/255"}));
  const SmallModel dropped(
      kData, with(kResnet, {"adversarial.kind=fast", "adversarial.eps=4/255",
                            "adversarial.step=3/255", "adversarial.drop_start=true"}));
  Images images(kept.config, 4);
  const auto one = perturbed(kept, images, 4), other = perturbed(dropped, images, 4);
  int64_t inside = 0, whole_steps = 0, still = 0, whole_of_kept = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    if (images.pixels[i] < 0.1f || images.pixels[i] > 0.9f) continue;
    ++inside;
    const auto is_step = [&](float x) {
      return std::abs(std::abs(double{x} - double{images.pixels[i]}) - 3.0 / 255) < 1e-6;
    };
    whole_steps += is_step(other[i]) ? 1 : 0;
    still += std::abs(other[i] - images.pixels[i]) < 1e-6f ? 1 : 0;
    whole_of_kept += is_step(one[i]) ? 1 : 0;
  }
  CHECK(inside > 100);
  CHECK(whole_steps > inside / 2);
  CHECK(whole_steps + still == inside);  // some pixels have no gradient
  CHECK(whole_of_kept < inside / 10);
  CHECK(largest_change(one, images.pixels) > 3.5 / 255);
}

TEST_CASE("adversary: same bits for threads and for parts of the batch") {
  const Settings trades = {"adversarial.kind=trades"};
  for (const Settings& settings : {kResnet, kVit, with(kResnet, trades), with(kVit, trades)}) {
    const SmallModel small(kData, settings);
    Images images(small.config, 8);
    const auto whole = perturbed(small, images, 8);
    CHECK(same_bytes(perturbed(small, images, 3), whole));
    CHECK(same_bytes(perturbed(small, images, 1), whole));
    CHECK(engine::test::same_bits_for_threads([&] { return perturbed(small, images, 8); }));
  }
}

TEST_CASE("adversary: weights stay; running statistics move only in training mode") {
  for (const char* mode : {"eval", "train"}) {
    CAPTURE(std::string(mode));
    SmallModel small(kData, with(kResnet, {std::string("adversarial.attack_mode=") + mode}));
    Images images(small.config, 8);
    const engine::ParamStore& params = small.model.params;
    std::vector<std::vector<float>> before;
    for (const auto& entry : params.entries()) {
      before.push_back(copy_of<float>(params.view(entry, Slab::kValue)));
    }
    perturbed(small, images, 8);
    size_t moved = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      const auto& entry = params.entries()[i];
      const bool same = same_bytes(before[i], copy_of<float>(params.view(entry, Slab::kValue)));
      CHECK((same || !entry.trainable));
      moved += same ? 0 : 1;
    }
    CHECK(moved == (std::string(mode) == "train" ? 40 : 0));  // two for each of 20 norms
  }
}

TEST_CASE("adversary: a training step learns from the adversarial images") {
  const auto set = data::open_dataset(kData, data::Split::kTrain);
  const Config config =
      train::test::small_config(*set, with(kResnet, {"train.batch=16", "optimizer.name=sgd"}));
  train::Model model(config, true);
  train::TrainStep step(config, model, 10);
  data::Loader loader(*set, train::training_loader(config));
  const data::Batch* batch = loader.next();
  Adversary adversary(config, *model.network);
  std::vector<int64_t> ids(16);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  const Tensor images = train::pixels_of(*batch, config);
  const auto x = copy_of<float>(adversary.perturb(
      images, {train::labels_of(*batch).data<const int32_t>(), 16}, batch->step, ids));
  const auto loss_of = [&](const std::vector<float>& pixels) {
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain, .param_grads = false, .replay = true};
    moe::ModelOutput out;
    model.network->forward(f, tape.input(engine::test::view(pixels, {16, 3, 16, 16})), out);
    double loss = 0;
    for (int64_t i = 0; i < 16; ++i) {
      loss += train::image_loss(out.logits.data<const float>() + i * 10, 10,
                                train::labels_of(*batch).data<const int32_t>()[i],
                                engine::CrossEntropy::kSoftmax) /
              16;
    }
    return loss;
  };
  const double loss = loss_of(x), clean = loss_of(copy_of<float>(images));
  CHECK(std::abs(loss - clean) > 1e-3);
  const train::StepResult& result = step.run(*batch, batch->step);
  CHECK(result.loss.cross_entropy == doctest::Approx(loss).epsilon(1e-5));
}

TEST_CASE("adversary: a warm step makes no heap allocation" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  const engine::test::Threads threads(1);
  const auto set = data::open_dataset(kData, data::Split::kTrain);
  const Settings trades = {"adversarial.kind=trades"};
  for (const Settings& settings : {kResnet, kVit, with(kResnet, trades), with(kVit, trades)}) {
    const Config config = train::test::small_config(*set, with(settings, {"train.batch=16"}));
    train::Model model(config, true);
    train::TrainStep step(config, model, 10);
    data::Loader loader(*set, train::training_loader(config));
    const data::Batch* batch = loader.next();
    engine::test::HeapCounter::track_this_thread();
    for (int64_t i = 0; i < 3; ++i) step.run(*batch, i);
    const engine::test::HeapCounter heap;
    step.run(*batch, 3);
    const int64_t count = heap.count();
    engine::test::HeapCounter::track_all_threads();
    CHECK(count == 0);
  }
}

TEST_CASE("adversary: what makes no sense is refused in one line") {
  const auto invalid = [](const Settings& settings) {
    Config config;
    for (const std::string& s : with({"train.steps=1"}, settings)) train::set_value(config, s);
    return caught([&] { train::validate(config); });
  };
  using engine::ErrorKind;
  CHECK(invalid({"adversarial.eps=-8/255"}).is(ErrorKind::kValue, {"adversarial.eps", "-8/255"}));
  CHECK(invalid({"adversarial.eps=8/0"}).is(ErrorKind::kValue, {"adversarial.eps"}));
  CHECK(invalid({"adversarial.step=nan"}).is(ErrorKind::kValue, {"adversarial.step", "nan"}));
  CHECK(invalid({"adversarial.step="}).is(ErrorKind::kValue, {"adversarial.step"}));
  CHECK(invalid({"adversarial.kind=pgd", "augment.mixup=0.5"})
            .is(ErrorKind::kValue, {"adversarial.kind", "mixup"}));
  const Settings trades = {"adversarial.kind=trades"};
  CHECK(invalid(with(trades, {"prc.form=paper", "data.two_view=true", "moe.layers=last 1"}))
            .is(ErrorKind::kValue, {"trades", "prc.form", "set prc.form=none"}));
  CHECK(invalid(with(trades, {"train.loss=sigmoid"}))
            .is(ErrorKind::kValue, {"trades", "train.loss", "set train.loss=softmax"}));
  CHECK_FALSE(
      invalid(with(trades, {"data.two_view=true", "train.label_smoothing=0.1"})).kind.has_value());
  CHECK_FALSE(invalid({"adversarial.kind=pgd", "adversarial.eps=0"}).kind.has_value());
  CHECK(train::read_fraction("8/255").value_or(0) == 8.0 / 255);
  CHECK(train::read_fraction("0.5/10").value_or(0) == 0.05);
  for (const char* text :
       {"", "/", "1/", "/2", "1/2/3", "inf", "nan", "-1", "0x", "1e999", "8 /2x"}) {
    CAPTURE(std::string(text));
    CHECK_FALSE(train::read_fraction(text).has_value());
  }
}
