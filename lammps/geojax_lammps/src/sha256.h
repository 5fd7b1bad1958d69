// SPDX-License-Identifier: GPL-2.0-only

// SHA-256 of bytes (FIPS 180-4), for files of at most a few hundred megabytes.

#ifndef GEOJAX_SHA256_H
#define GEOJAX_SHA256_H

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace geojax {

inline uint32_t turned(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

inline void digest_block(std::array<uint32_t, 8> &state, const unsigned char *block)
{
  static constexpr uint32_t K[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  uint32_t w[64];
  for (int t = 0; t < 16; t++)
    w[t] = uint32_t(block[4 * t]) << 24 | uint32_t(block[4 * t + 1]) << 16 |
        uint32_t(block[4 * t + 2]) << 8 | uint32_t(block[4 * t + 3]);
  for (int t = 16; t < 64; t++) {
    const uint32_t s0 = turned(w[t - 15], 7) ^ turned(w[t - 15], 18) ^ (w[t - 15] >> 3);
    const uint32_t s1 = turned(w[t - 2], 17) ^ turned(w[t - 2], 19) ^ (w[t - 2] >> 10);
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int t = 0; t < 64; t++) {
    const uint32_t s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + K[t] + w[t];
    const uint32_t s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const uint32_t more[8] = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; i++) state[i] += more[i];
}

// The digest in 64 hexadecimal digits.
inline std::string sha256(std::string bytes)
{
  std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const uint64_t bits = 8 * uint64_t(bytes.size());
  bytes.push_back('\x80');
  while (bytes.size() % 64 != 56) bytes.push_back('\0');
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(char(bits >> shift & 255));
  for (size_t at = 0; at < bytes.size(); at += 64)
    digest_block(state, reinterpret_cast<const unsigned char *>(bytes.data()) + at);
  std::string text;
  char word[9];
  for (const uint32_t part : state) {
    std::snprintf(word, sizeof word, "%08x", part);
    text += word;
  }
  return text;
}

}    // namespace geojax

#endif
