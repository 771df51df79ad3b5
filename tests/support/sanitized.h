#pragma once

namespace engine::test {

// Whether a sanitizer is compiled in, which makes a test ten to fifty times as slow. Tests that
// run the same code over and over, to count or to measure, do less of it then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace engine::test
