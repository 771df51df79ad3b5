#pragma once

#include "engine/core/backend.h"
#include "engine/core/step_key.h"

// Raw kernels of what an MoE layer draws, and of constants in place of what it chooses. Random
// numbers are the same bits on every device.
namespace moe::kernels {

// noise[b,i] = sigma * normal i of key.with(ids[b]); noise (images, numbers of an image).
template <class T>
void put_noise(engine::Cpu, const engine::StepKey& key, const int64_t* ids, double sigma,
               engine::RowsCols size, T* noise);
template <class T>
void put_noise(engine::Cuda, const engine::StepKey& key, const int64_t* ids, double sigma,
               engine::RowsCols size, T* noise);

// A plan's slots, as dropout masks need them. Rows of unused slots become zeros.
struct MaskSlots {
  const int32_t *choice_of_slot, *expert_of, *offset;
  int64_t slots, width;
  int64_t choices;  // of an image
  bool by_slot;     // DropoutMask::kSlot: keyed by the slot's place in its expert alone
};
// mask[s,i] = number i of the slot's key < rate ? 0 : 1 / (1 - rate). ids: of the images; not read
// with by_slot.
template <class T>
void put_mask(engine::Cpu, const engine::StepKey& key, const int64_t* ids, double rate,
              const MaskSlots& plan, T* mask);
template <class T>
void put_mask(engine::Cuda, const engine::StepKey& key, const int64_t* ids, double rate,
              const MaskSlots& plan, T* mask);

template <class T>
void fill(engine::Cpu, T* out, int64_t count, T value);
template <class T>
void fill(engine::Cuda, T* out, int64_t count, T value);

// owner[i] = i / slots % experts: the expert of slot i of an image.
void put_owners(engine::Cpu, int64_t count, int64_t slots, int64_t experts, int32_t* owner);
void put_owners(engine::Cuda, int64_t count, int64_t slots, int64_t experts, int32_t* owner);
// shares[i] = sum over the `slots` of expert i of weight; logs their logarithms.
template <class T>
void put_shares(engine::Cpu, const T* weight, int64_t slots, int64_t count, T* shares, T* logs);
template <class T>
void put_shares(engine::Cuda, const T* weight, int64_t slots, int64_t count, T* shares, T* logs);

}  // namespace moe::kernels
