// How generated code runs over edges and channels, and how XLA calls it.
//
// The generated part comes first and defines
//
//     T                        float or double
//     W                        lanes of a vector
//     ROWS_W, ROWS_OUT, ROWS_X, ROWS_Y    rows of each argument; ROWS_W is 0 without weights
//     MATRIX                   entries of the matrix that y alone makes of an edge (thin lanes), or 0
//     THIN                     y has one channel
//     NARROW                   there are fewer channels than lanes
//     matrix(y, m)             that matrix
//     out_lanes<ADD>(a, s)     W lanes of dF/dout, and so on for x, w; with ADD to what is there
//     y_lanes<ADD>(a, s, sum)  the same; thin lanes are added up in `sum[ROWS_Y]`
//
// A lane is one channel of one edge. Arrays are [edge or node, row, channel].

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include "xla/ffi/api/c_api.h"

namespace {

enum Argument { OUT, X, Y, W_, COUNT };
constexpr long ROWS[COUNT] = {ROWS_OUT, ROWS_X, ROWS_Y, ROWS_W};

struct Call {
  T *array[COUNT] = {};             // the target among them
  const int32_t *index[COUNT] = {}; // the node of each edge, for arguments that belong to nodes
  long edges = 0, channels = 0, targets = 0;

  long place(int name, long edge) const { return index[name] ? index[name][edge] : edge; }
  long width(int name) const { return name == Y && THIN ? 1 : channels; }
  T *rows(int name, long edge) const {
    return array[name] + place(name, edge) * ROWS[name] * width(name);
  }
};

template <int TARGET, bool ADD> void lanes(const Lanes &a, long stride, V *sum) {
  if constexpr (TARGET == OUT) out_lanes<ADD>(a, stride);
  if constexpr (TARGET == X) x_lanes<ADD>(a, stride);
  if constexpr (TARGET == W_) w_lanes<ADD>(a, stride);
  if constexpr (TARGET == Y) y_lanes<ADD>(a, stride, sum);
}

inline T *&lane_pointer(Lanes &a, int name) {
  return name == OUT ? a.out : name == X ? a.x : name == Y ? a.y : a.w;
}

// Rows of some channels of some edges, side by side in W lanes.
struct Packed {
  alignas(64) T rows[COUNT][(ROWS_OUT > ROWS_X ? ROWS_OUT : ROWS_X) + ROWS_Y + ROWS_W][W];

  void clear(int name) { std::memset(rows[name], 0, sizeof rows[name]); }

  void read(const Call &call, int name, long edge, long channel, long count, long lane) {
    const T *from = call.rows(name, edge);
    const long width = call.width(name);
    for (long r = 0; r < ROWS[name]; ++r)
      for (long c = 0; c < count; ++c)
        rows[name][r][lane + c] = from[r * width + (width == 1 ? 0 : channel + c)];
  }

  template <bool ADD>
  void write(const Call &call, int name, long edge, long channel, long count, long lane) {
    T *to = call.rows(name, edge);
    for (long r = 0; r < ROWS[name]; ++r) {
      if (name == Y && THIN && call.channels > 1) {
        T total = 0;
        for (long c = 0; c < count; ++c) total += rows[name][r][lane + c];
        to[r] = (ADD ? to[r] : T(0)) + total;
        continue;
      }
      for (long c = 0; c < count; ++c) {
        T &at = to[r * call.channels + channel + c];
        at = (ADD ? at : T(0)) + rows[name][r][lane + c];
      }
    }
  }

  Lanes pointers() {
    Lanes a{};
    for (int name = 0; name < COUNT; ++name) lane_pointer(a, name) = rows[name][0];
    return a;
  }
};

// Edges [first, last) with a target among rows [low, high) of its array; wide channels.
template <int TARGET, bool ADD> void wide(const Call &call, long first, long last, long low, long high) {
  constexpr bool thin_lanes = MATRIX > 0;
  T m[MATRIX + 1];
  Packed packed;
  for (int name = 0; name < COUNT; ++name) packed.clear(name);
  const long whole = call.channels / W * W, rest = call.channels - whole;
  for (long e = first; e < last; ++e) {
    const long at = call.place(TARGET, e);
    if (at < low || at >= high) continue;
    Lanes a{};
    for (int name = 0; name < COUNT; ++name)
      if (call.array[name]) lane_pointer(a, name) = call.rows(name, e);
    if (thin_lanes && TARGET != Y) matrix(a.y, m);
    a.m = m;
    V sum[ROWS_Y] = {};
    for (long c = 0; c < whole; c += W) {
      lanes<TARGET, ADD>(a, call.channels, sum);
      for (int name = 0; name < COUNT; ++name)
        if (call.array[name] && !(name == Y && THIN)) lane_pointer(a, name) += W;
    }
    if (rest) {
      for (int name = 0; name < COUNT; ++name)
        if (call.array[name] && name != TARGET && !(name == Y && THIN))
          packed.read(call, name, e, whole, rest, 0);
      if (ADD) packed.clear(TARGET);
      Lanes tail = packed.pointers();
      if (THIN) tail.y = a.y;
      tail.m = m;
      lanes<TARGET, ADD>(tail, W, sum);
      if (!(TARGET == Y && THIN)) packed.write<ADD>(call, TARGET, e, whole, rest, 0);
    }
    if (TARGET == Y && THIN) {
      T *to = call.rows(Y, e);
      for (long r = 0; r < ROWS_Y; ++r) {
        T total = 0;
        for (long i = 0; i < W; ++i) total += sum[r][i];
        to[r] = (ADD ? to[r] : T(0)) + total;
      }
    }
  }
}

// The same for few channels: several edges share a vector. The generated lanes are not thin.
template <int TARGET, bool ADD> void narrow(const Call &call, long first, long last, long low, long high) {
  const long each = call.channels, many = W / each;
  Packed packed;
  for (int name = 0; name < COUNT; ++name) packed.clear(name);
  for (long e = first; e < last;) {
    long edges[W], count = 0;
    for (; e < last && count < many; ++e) {
      const long at = call.place(TARGET, e);
      if (at >= low && at < high) edges[count++] = e;
    }
    for (long i = 0; i < count; ++i)
      for (int name = 0; name < COUNT; ++name)
        if (call.array[name] && name != TARGET) packed.read(call, name, edges[i], 0, each, i * each);
    if (ADD) packed.clear(TARGET);
    V sum[ROWS_Y];
    lanes<TARGET, ADD>(packed.pointers(), W, sum);
    for (long i = 0; i < count; ++i) packed.write<ADD>(call, TARGET, edges[i], 0, each, i * each);
  }
}

// Rows [low, high) of the target; with ADD they belong to nodes, and edges may share them.
template <int TARGET, bool ADD> void part(const Call &call, long low, long high) {
  if (ADD) {
    const long size = ROWS[TARGET] * call.width(TARGET);
    std::memset(call.array[TARGET] + low * size, 0, (high - low) * size * sizeof(T));
  }
  const long first = ADD ? 0 : low, last = ADD ? call.edges : high;
  if constexpr (NARROW)
    narrow<TARGET, ADD>(call, first, last, low, high);
  else
    wide<TARGET, ADD>(call, first, last, low, high);
}

// Parts of the target's rows, claimed one by one by the caller and by threads of XLA's pool. The
// caller waits for claimed parts only, so a pool that is busy or absent delays nothing.
struct Work {
  std::atomic<long> next{0}, done{0};
  long parts;
  void (*run)(const Call &, long, long);
  Call call;

  void claim() {
    for (long i; (i = next.fetch_add(1)) < parts; done.fetch_add(1))
      run(call, call.targets * i / parts, call.targets * (i + 1) / parts);
  }
};

void help(void *data) {
  std::unique_ptr<std::shared_ptr<Work>> work(static_cast<std::shared_ptr<Work> *>(data));
  (*work)->claim();
}

void drop(const XLA_FFI_Api *api, XLA_FFI_Error *error) {
  XLA_FFI_Error_Destroy_Args args{XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
  api->XLA_FFI_Error_Destroy(&args);
}

long threads(const XLA_FFI_CallFrame *frame) {
  int64_t count = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args{};
  args.struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE;
  args.ctx = frame->ctx;
  args.num_threads = &count;
  if (XLA_FFI_Error *error = frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) {
    drop(frame->api, error);
    return 1;
  }
  return count < 1 ? 1 : count;
}

constexpr long WORTH = 1 << 16; // lanes x rows for which a second thread pays

template <int TARGET, bool ADD> XLA_FFI_Error *execute(XLA_FFI_CallFrame *frame, const Call &call) {
  if (call.targets == 0 || call.channels == 0) return nullptr;
  const long work = call.edges * call.channels * (ROWS_OUT + ROWS_X + ROWS_Y + ROWS_W);
  long parts = work / WORTH < 1 ? 1 : work / WORTH;
  if (parts > 1) parts = std::min(parts, threads(frame));
  parts = std::min(parts, call.targets);
  if (parts == 1) {
    part<TARGET, ADD>(call, 0, call.targets);
    return nullptr;
  }
  auto shared = std::make_shared<Work>();
  shared->parts = parts;
  shared->run = part<TARGET, ADD>;
  shared->call = call;
  for (long i = 1; i < parts; ++i) {
    XLA_FFI_ThreadPool_Schedule_Args args{};
    args.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
    args.ctx = frame->ctx;
    args.task = help;
    args.data = new std::shared_ptr<Work>(shared);
    if (XLA_FFI_Error *error = frame->api->XLA_FFI_ThreadPool_Schedule(&args)) {
      drop(frame->api, error);
      delete static_cast<std::shared_ptr<Work> *>(args.data);
      break;
    }
  }
  shared->claim();
  while (shared->done.load() < parts) std::this_thread::yield();
  return nullptr;
}

// A large result is fresh memory, whose pages the system makes one by one as they are written; in
// huge pages that takes a tenth of the time (4096 edges of lmax 3: 52 MB in 24 instead of 89 ms).
void huge_pages(void *data, long bytes) {
#ifdef MADV_HUGEPAGE
  constexpr long huge = 1 << 21;
  if (bytes < 4 * huge) return;
  const long start = (reinterpret_cast<long>(data) + huge - 1) / huge * huge;
  const long end = (reinterpret_cast<long>(data) + bytes) / huge * huge;
  madvise(reinterpret_cast<void *>(start), end - start, MADV_HUGEPAGE);
#endif
}

XLA_FFI_Error *metadata(XLA_FFI_CallFrame *frame) {
  auto *extension = reinterpret_cast<XLA_FFI_Metadata_Extension *>(frame->extension_start);
  extension->metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  extension->metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return nullptr;
}

// `floats` are the arguments that come as arrays, in order; `indexed` those that have an index.
template <int TARGET, bool ADD>
XLA_FFI_Error *handle(XLA_FFI_CallFrame *frame, const std::vector<int> &floats,
                      const std::vector<int> &indexed) {
  for (auto *e = frame->extension_start; e; e = e->next)
    if (e->type == XLA_FFI_Extension_Metadata) return metadata(frame);
  if (frame->stage != XLA_FFI_ExecutionStage_EXECUTE) return nullptr;
  Call call;
  const auto *result = static_cast<XLA_FFI_Buffer *>(frame->rets.rets[0]);
  call.array[TARGET] = static_cast<T *>(result->data);
  call.targets = result->dims[0];
  huge_pages(result->data, call.targets * result->dims[1] * result->dims[2] * long(sizeof(T)));
  call.channels = TARGET == Y ? 1 : result->dims[2];
  int64_t next = 0;
  for (int name : floats) {
    const auto *buffer = static_cast<XLA_FFI_Buffer *>(frame->args.args[next++]);
    call.array[name] = static_cast<T *>(buffer->data);
    call.edges = buffer->dims[0]; // an argument without index is among them, or there is an index
    if (name != Y && buffer->dims[2] > call.channels) call.channels = buffer->dims[2];
  }
  for (int name : indexed) {
    const auto *buffer = static_cast<XLA_FFI_Buffer *>(frame->args.args[next++]);
    call.index[name] = static_cast<const int32_t *>(buffer->data);
    call.edges = buffer->dims[0];
  }
  return execute<TARGET, ADD>(frame, call);
}

} // namespace

#define HANDLER(name, target, add, ...)                                                       \
  extern "C" XLA_FFI_Error *name(XLA_FFI_CallFrame *frame) {                                  \
    static const std::vector<int> lists[2] = {__VA_ARGS__};                                   \
    return handle<target, add>(frame, lists[0], lists[1]);                                         \
  }
