// oneDNN on the matrix products of a recipe's training step, in turn with our own.
//
//   onednn_products ROBUSTMOE PAIRS THREADS f32|both OPTIONS
//
// runs `ROBUSTMOE bench ops OPTIONS` PAIRS times, in f32 or also in bf16, and oneDNN on the same
// shapes after each, and prints the medians, their ratios and what all products of a step take.
// f32: row-major operands as they lie in memory, transposed where a gradient needs it. bf16: f32
// operands reordered to bf16 in the time that counts, f32 results. Built and run by products.sh
// beside this file.
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

using dnnl::memory;
using nlohmann::json;

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
dnnl::stream& queue() {
  static dnnl::stream stream(cpu());
  return stream;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Median seconds of a call, over about 0.3 s and at least five, after one that does not count.
double median_time(const std::function<void()>& call) {
  call();
  std::vector<double> times;
  for (const double start = now(); times.size() < 5 || now() - start < 0.3;) {
    const double begin = now();
    call();
    times.push_back(now() - begin);
  }
  return median(times);
}

// Memory as the program has it: in large pages.
class Floats {
 public:
  Floats(int64_t count, float value) {
    constexpr size_t kPage = size_t{2} << 20;
    const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kPage - 1) / kPage * kPage;
    data_.reset(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
    madvise(data_.get(), bytes, MADV_HUGEPAGE);
    std::fill_n(data_.get(), count, value);
  }
  float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
};

// A (groups, rows, columns) operand; transposed: it lies in memory as (groups, columns, rows).
memory::desc describe(memory::data_type type, int64_t groups, int64_t rows, int64_t columns,
                      bool transposed) {
  return {{groups, rows, columns},
          type,
          transposed ? memory::dims{rows * columns, 1, rows}
                     : memory::dims{rows * columns, columns, 1}};
}

// GFLOP/s of c (m,n) = op(a) (m,k) op(b) (k,n), `groups` times.
double rate(int64_t groups, int64_t m, int64_t n, int64_t k, bool ta, bool tb, bool bf16) {
  constexpr auto kF32 = memory::data_type::f32, kBf16 = memory::data_type::bf16;
  const auto plain_a = describe(kF32, groups, m, k, ta), plain_b = describe(kF32, groups, k, n, tb),
             c = describe(kF32, groups, m, n, false);
  const Floats a_data(groups * m * k, 0.5f), b_data(groups * k * n, 0.25f),
      c_data(groups * m * n, 0);
  memory a(plain_a, cpu(), a_data.get()), b(plain_b, cpu(), b_data.get()),
      out(c, cpu(), c_data.get());
  const double work = 2e-9 * static_cast<double>(groups * m * n) * static_cast<double>(k);
  if (!bf16) {
    const dnnl::matmul product({{plain_a, plain_b, c}, cpu()});
    return work / median_time([&] {
             product.execute(queue(),
                             {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, out}});
             queue().wait();
           });
  }
  const auto any = [&](int64_t rows, int64_t columns) {
    return memory::desc({groups, rows, columns}, kBf16, memory::format_tag::any);
  };
  const dnnl::matmul::primitive_desc chosen({any(m, k), any(k, n), c}, cpu());
  memory a16(chosen.src_desc(), cpu()), b16(chosen.weights_desc(), cpu());
  const dnnl::matmul product(chosen);
  const dnnl::reorder pack_a(a, a16), pack_b(b, b16);
  return work / median_time([&] {
           pack_a.execute(queue(), a, a16);
           pack_b.execute(queue(), b, b16);
           product.execute(queue(),
                           {{DNNL_ARG_SRC, a16}, {DNNL_ARG_WEIGHTS, b16}, {DNNL_ARG_DST, out}});
           queue().wait();
         });
}

// The three products of a linear layer y (m,n) = x (m,k) w (k,n), or of experts that share m.
constexpr const char* kParts[] = {"forward_gflops", "input_gradient_gflops",
                                  "weight_gradient_gflops"};
double part_rate(const json& product, int part, bool bf16) {
  const int64_t groups = std::max<int64_t>(1, product["groups"]);
  const int64_t m = product["m"].get<int64_t>() / groups, n = product["n"], k = product["k"];
  if (part == 0) return rate(groups, m, n, k, false, false, bf16);
  if (part == 1) return rate(groups, m, k, n, false, true, bf16);
  return rate(groups, k, n, m, true, false, bf16);
}

json run_ours(const std::string& program, const std::string& options, const char* precision,
              int threads) {
  // The last of options that are given twice counts.
  const std::string command = "'" + program + "' bench ops " + options +
                              " --seconds 6 --json - --threads " + std::to_string(threads) +
                              " --set train.precision=" + precision;
  std::FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  char buffer[4096];
  for (size_t n; pipe != nullptr && (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    text.append(buffer, n);
  }
  if (pipe == nullptr || pclose(pipe) != 0) {
    std::fprintf(stderr, "onednn_products: %s does not run\n", command.c_str());
    std::exit(1);
  }
  json result = json::parse(text, nullptr, false);
  if (!result.is_object()) {
    std::fprintf(stderr, "onednn_products: %s prints no figures\n", command.c_str());
    std::exit(1);
  }
  return result;
}

// All rates that were measured, of a product and part.
struct Measured {
  double gflop_in_step = 0;
  std::vector<double> ours_f32, f32, ours_bf16, bf16;

  double step_ms(double rate) const { return 1e3 * gflop_in_step / rate; }
};

void measure(const json& ours_f32, const json* ours_bf16, std::map<std::string, Measured>& all,
             std::vector<std::string>& order) {
  for (size_t i = 0; i < ours_f32["products"].size(); ++i) {
    const json& product = ours_f32["products"][i];
    for (int part = 0; part < 3; ++part) {
      constexpr const char* kNames[] = {"y", "dx", "dw"};
      char name[64];
      std::snprintf(name, sizeof name, "%-18s %s", product["name"].get<std::string>().c_str(),
                    kNames[part]);
      if (!all.contains(name)) order.push_back(name);
      Measured& here = all[name];
      const double times = product[part == 1 ? "input_gradients_in_step" : "in_step"];
      here.gflop_in_step =
          2e-9 * times * double{product["m"]} * double{product["n"]} * double{product["k"]};
      here.ours_f32.push_back(product[kParts[part]]);
      here.f32.push_back(part_rate(product, part, false));
      if (ours_bf16 == nullptr) continue;
      const json& in_bf16 = (*ours_bf16)["products"][i];
      if (in_bf16["precision"] != "bf16") continue;  // a router
      here.ours_bf16.push_back(in_bf16[kParts[part]]);
      here.bf16.push_back(part_rate(product, part, true));
    }
  }
}

// A router's products are f32 in both.
void print_step(const std::map<std::string, Measured>& all, bool bf16, double views) {
  double ours[2] = {}, peer[2] = {};
  for (const auto& [name, m] : all) {
    const bool routed = m.bf16.empty();
    ours[0] += m.step_ms(median(m.ours_f32));
    peer[0] += m.step_ms(median(m.f32));
    ours[1] += m.step_ms(median(routed ? m.ours_f32 : m.ours_bf16));
    peer[1] += m.step_ms(median(routed ? m.f32 : m.bf16));
  }
  for (int i = 0; i < (bf16 ? 2 : 1); ++i) {
    std::printf("all in a step, %s: ours %.1f ms, oneDNN %.1f ms, a floor of %.1f views/s\n",
                i == 0 ? "f32" : "bf16", ours[i], peer[i], 1e3 * views / peer[i]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: onednn_products ROBUSTMOE PAIRS THREADS f32|both OPTIONS\n");
    return 2;
  }
  const int pairs = std::atoi(argv[2]), threads = std::atoi(argv[3]);
  const bool bf16 = std::string(argv[4]) == "both";
  std::string options, shown;
  for (int i = 5; i < argc; ++i) {
    options += " '";
    for (const char* c = argv[i]; *c != 0; ++c) {
      options += *c == '\'' ? std::string("'\\''") : std::string(1, *c);
    }
    options += "'";
    shown += std::string(argv[i]) + " ";
  }
  omp_set_num_threads(threads);
  std::map<std::string, Measured> all;
  std::vector<std::string> order;
  json ours_f32, ours_bf16;
  for (int pair = 0; pair < pairs; ++pair) {
    ours_f32 = run_ours(argv[1], options, "f32", threads);
    if (bf16) ours_bf16 = run_ours(argv[1], options, "bf16", threads);
    measure(ours_f32, bf16 ? &ours_bf16 : nullptr, all, order);
  }
  const dnnl_version_t* version = dnnl_version();
  std::printf("%s%d threads, oneDNN %d.%d.%d; medians of %d, GFLOP/s\n", shown.c_str(), threads,
              version->major, version->minor, version->patch, pairs);
  std::printf("%-22s %8s %8s %7s", "product", "ours f32", "oneDNN", "ratio");
  if (bf16) std::printf("   %9s %8s %7s", "ours bf16", "oneDNN", "ratio");
  std::printf("\n");
  for (const std::string& name : order) {
    const Measured& m = all[name];
    std::printf("%-22s %8.0f %8.0f %7.2f", name.c_str(), median(m.ours_f32), median(m.f32),
                median(m.ours_f32) / median(m.f32));
    if (!m.bf16.empty()) {
      std::printf("   %9.0f %8.0f %7.2f", median(m.ours_bf16), median(m.bf16),
                  median(m.ours_bf16) / median(m.bf16));
    }
    std::printf("\n");
  }
  if (ours_f32.contains("products_of_step_ms")) print_step(all, bf16, ours_f32["views"]);
  return 0;
}
