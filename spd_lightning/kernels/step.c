/* Compiled parts of the training step: gates read from a table, masks drawn where they are used, penalties, divergences.
 *
 * Matrices are float32 and row-major. Every function splits its rows over `threads`. What each one computes is
 * written in PyTorch beside its caller; the tests hold both equal.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define GROUP (4 * LANES)
#define EACH_LANE for (int i = 0; i < LANES; i++)
#define SLOPE 0.01f

/* ---- elementary functions, written so that a compiler can vectorise them ---- */

static inline float exp_negative(float x) { /* exp(x) for x <= 0 */
    x = x < -87.0f ? -87.0f : x;
    float k = rintf(x * 1.44269504f);
    float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666418f + r * (0.00833345205f + r * 0.00138878601f)))));
    union { int32_t bits; float value; } power = {((int32_t)k + 127) << 23};
    return p * power.value;
}

/* density and distribution function of the standard normal (Abramowitz and Stegun 7.1.26, error below 1.5e-7) */
static inline void normal(float x, float *density, float *distribution) {
    float size = fabsf(x) * 0.707106781f, bell = exp_negative(-size * size);
    float t = 1.0f / (1.0f + 0.3275911f * size);
    float tail = 0.5f * bell * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    *density = 0.398942280f * bell;
    *distribution = x < 0 ? tail : 1.0f - tail;
}

/* ---- Philox 4x32-10 (Salmon et al. 2011): random words numbered by a counter ---- */

static inline void philox(uint32_t *restrict c0, uint32_t *restrict c1, uint32_t *restrict c2, uint32_t *restrict c3,
                          uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        EACH_LANE {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1; c3[i] = (uint32_t)p0; c0[i] = n0; c2[i] = n2;
        }
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
}

/* 64 uniforms in [0, 1): entries 64 * block ... of a matrix, row after row */
static inline void uniforms(uint64_t block, uint64_t seed, float *restrict out) {
    uint32_t word[4][LANES];
    uint64_t from = block * LANES;
    EACH_LANE { word[0][i] = (uint32_t)from + i; word[1][i] = (uint32_t)(from >> 32); word[2][i] = 0; word[3][i] = 0; }
    philox(word[0], word[1], word[2], word[3], (uint32_t)seed, (uint32_t)(seed >> 32));
    for (int w = 0; w < 4; w++) EACH_LANE out[w * LANES + i] = (word[w][i] >> 8) * 0x1p-24f;
}

void philox_words(const uint32_t *counter, const uint32_t *key, uint32_t *out) { /* for the known-answer test */
    uint32_t word[4][LANES];
    for (int w = 0; w < 4; w++) EACH_LANE word[w][i] = counter[w];
    philox(word[0], word[1], word[2], word[3], key[0], key[1]);
    for (int w = 0; w < 4; w++) out[w] = word[w][0];
}

/* uniforms of `here` entries of a matrix, beginning anywhere; from a multiple of GROUP on they are one block */
static inline void uniforms_from(int64_t entry, int64_t here, uint64_t seed, float *restrict out) {
    int64_t skip = entry % GROUP;
    float next[2 * GROUP];
    if (!skip) { uniforms(entry / GROUP, seed, out); return; }
    uniforms(entry / GROUP, seed, next);
    if (skip + here > GROUP) uniforms(entry / GROUP + 1, seed, next + GROUP);
    memcpy(out, next + skip, here * sizeof(float));
}

/* `before` is the number of entries of the same matrix that other processes hold before these rows */
void uniform_rows(int64_t rows, int64_t width, uint64_t seed, int64_t before, float *out, int threads) {
    int64_t size = rows * width;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < size; at += GROUP) {
        float u[GROUP];
        int64_t here = size - at < GROUP ? size - at : GROUP;
        uniforms_from(before + at, here, seed, u);
        memcpy(out + at, u, here * sizeof(float));
    }
}

/* ---- masked inner activations: y = h (g + (1 - g) r - shift), shift per row ---- */

/* the shifts of the entries from `at` on, each repeated for its row */
static inline void spread(int64_t at, int64_t here, int64_t width, const float *shift, float *restrict out) {
    int64_t row = at / width, left = width - at % width;
    for (int64_t i = 0; i < here; row++, left = width) {
        int64_t end = i + left < here ? i + left : here;
        for (; i < end; i++) out[i] = shift[row];
    }
}

/* noise and shifts of the group of entries from `at` on; returns how many there are */
static inline int64_t draw(int64_t at, int64_t size, int64_t width, const float *shift, uint64_t seed, int64_t before,
                           float *restrict u, float *restrict s) {
    int64_t here = size - at < GROUP ? size - at : GROUP;
    uniforms_from(before + at, here, seed, u);
    if (shift) spread(at, here, width, shift, s);
    return here;
}

void masked_forward(int64_t rows, int64_t width, const float *restrict h, const float *restrict g,
                    const float *restrict shift, uint64_t seed, int64_t before, float *restrict y, int threads) {
    int64_t size = rows * width;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < size; at += GROUP) {
        float u[GROUP], s[GROUP] = {0};
        int64_t here = draw(at, size, width, shift, seed, before, u, s);
        for (int64_t i = 0; i < here; i++) y[at + i] = h[at + i] * (g[at + i] + (1.0f - g[at + i]) * u[i] - s[i]);
    }
}

void masked_backward(int64_t rows, int64_t width, const float *restrict h, const float *restrict g,
                     const float *restrict shift, uint64_t seed, int64_t before, const float *restrict dy,
                     float *restrict dh, float *restrict dg, int threads) {
    int64_t size = rows * width;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < size; at += GROUP) {
        float u[GROUP], s[GROUP] = {0};
        int64_t here = draw(at, size, width, shift, seed, before, u, s);
        for (int64_t i = 0; i < here; i++) {
            float d = dy[at + i], keep = 1.0f - u[i];
            dh[at + i] = d * (g[at + i] + (1.0f - g[at + i]) * u[i] - s[i]);
            dg[at + i] = d * h[at + i] * keep;
        }
    }
}

/* ---- the same for some rows of the matrix alone: chosen[r] is the number of row r; h, y and dh hold the chosen ones, the
 * importances, shifts and dg all of them. The noise is that of the whole matrix ---- */

/* noise of the entries of a row from `at` on, as many as one block of it holds; returns how many there are */
static inline int64_t draw_in_row(int64_t entry, int64_t left, uint64_t seed, float *restrict u) {
    int64_t here = GROUP - entry % GROUP;
    here = here < left ? here : left;
    uniforms_from(entry, here, seed, u);
    return here;
}

void masked_chosen_forward(int64_t rows, int64_t width, const int64_t *restrict chosen, const float *restrict h,
                           const float *restrict g, const float *restrict shift, uint64_t seed, int64_t before,
                           float *restrict y, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float s = shift ? shift[chosen[r]] : 0.0f, u[GROUP];
        int64_t row = chosen[r] * width;
        for (int64_t at = 0, here; at < width; at += here) {
            const float *restrict gr = g + row + at, *restrict hr = h + r * width + at;
            here = draw_in_row(before + row + at, width - at, seed, u);
            for (int64_t i = 0; i < here; i++) y[r * width + at + i] = hr[i] * (gr[i] + (1.0f - gr[i]) * u[i] - s);
        }
    }
}

void masked_chosen_backward(int64_t rows, int64_t width, const int64_t *restrict chosen, const float *restrict h,
                            const float *restrict g, const float *restrict shift, uint64_t seed, int64_t before,
                            const float *restrict dy, float *restrict dh, float *restrict dg, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float s = shift ? shift[chosen[r]] : 0.0f, u[GROUP];
        int64_t row = chosen[r] * width;
        for (int64_t at = 0, here; at < width; at += here) {
            const float *restrict gr = g + row + at, *restrict hr = h + r * width + at, *restrict d = dy + r * width + at;
            here = draw_in_row(before + row + at, width - at, seed, u);
            for (int64_t i = 0; i < here; i++) {
                dh[r * width + at + i] = d[i] * (gr[i] + (1.0f - gr[i]) * u[i] - s);
                dg[row + at + i] = d[i] * hr[i] * (1.0f - u[i]);
            }
        }
    }
}

/* ---- the grid of a gate table: per column, nodes at whole multiples of a spacing, so that 0 is a node ---- */

static void column_ranges(int64_t rows, int64_t width, const float *h, float *low, float *high, int threads) {
    memset(low, 0, width * sizeof(float));
    memset(high, 0, width * sizeof(float));
    #pragma omp parallel num_threads(threads)
    {
        float *lo = calloc(2 * width, sizeof(float)), *hi = lo + width;
        #pragma omp for schedule(static) nowait
        for (int64_t n = 0; n < rows; n++)
            for (int64_t c = 0; c < width; c++) {
                float x = h[n * width + c];
                lo[c] = x < lo[c] ? x : lo[c];
                hi[c] = x > hi[c] ? x : hi[c];
            }
        #pragma omp critical
        for (int64_t c = 0; c < width; c++) {
            low[c] = lo[c] < low[c] ? lo[c] : low[c];
            high[c] = hi[c] > high[c] ? hi[c] : high[c];
        }
        free(lo);
    }
}

/* spacing, 1 / spacing and the number of the first node, so that `nodes` nodes cover the range with a cell to spare */
static void lay_grid(int64_t rows, int64_t width, int64_t nodes, const float *h, float *restrict spacing,
                     float *restrict inverse, float *restrict first, int threads) {
    column_ranges(rows, width, h, first, inverse, threads); /* lowest and highest, for a moment */
    for (int64_t c = 0; c < width; c++) {
        float low = first[c], size = (inverse[c] - low) / (float)(nodes - 3);
        spacing[c] = size > 1e-30f ? size : 1.0f;
        inverse[c] = 1.0f / spacing[c];
        first[c] = floorf(low * inverse[c]);
    }
}

/* ---- table of gates with one hidden layer ----
 * w, b, o are [width, hidden] (in weights, in biases, out weights), z0 is [width]. A table is [width, nodes, 4]: value,
 * spacing * slope, spacing^2 * curvature and an unused entry, so that the two nodes around a point are one cache line.
 */

static void table_forward(int64_t width, int64_t hidden, int64_t nodes, const float *restrict w, const float *restrict b,
                   const float *restrict o, const float *restrict z0, const float *restrict spacing,
                   const float *restrict first, float *restrict table, int threads) {
    #pragma omp parallel num_threads(threads)
    {
        float *restrict value = malloc(3 * nodes * sizeof(float));
        float *restrict slope = value + nodes, *restrict curve = slope + nodes;
        #pragma omp for schedule(static)
        for (int64_t c = 0; c < width; c++) {
            for (int64_t j = 0; j < nodes; j++) { value[j] = z0[c]; slope[j] = 0; curve[j] = 0; }
            for (int64_t k = 0; k < hidden; k++) {
                float wk = w[c * hidden + k], bk = b[c * hidden + k], ok = o[c * hidden + k], ws = wk * spacing[c];
                #pragma omp simd
                for (int64_t j = 0; j < nodes; j++) {
                    float x = wk * ((first[c] + (float)(int32_t)j) * spacing[c]) + bk, f, F;
                    normal(x, &f, &F);
                    value[j] += ok * x * F;
                    slope[j] += ok * ws * (F + x * f);
                    curve[j] += ok * ws * ws * (2.0f - x * x) * f;
                }
            }
            for (int64_t j = 0; j < nodes; j++) {
                float *at = table + (c * nodes + j) * 4;
                at[0] = value[j]; at[1] = slope[j]; at[2] = curve[j]; at[3] = 0;
            }
        }
        free(value);
    }
}

static void table_backward(int64_t width, int64_t hidden, int64_t nodes, const float *restrict w, const float *restrict b,
                    const float *restrict o, const float *restrict spacing, const float *restrict first,
                    const float *restrict dtable, float *restrict dw, float *restrict db, float *restrict d_o,
                    float *restrict dz0, int threads) {
    #pragma omp parallel num_threads(threads)
    {
        float *restrict dvalue = malloc(3 * nodes * sizeof(float));
        float *restrict dslope = dvalue + nodes, *restrict dcurve = dslope + nodes;
        #pragma omp for schedule(static)
        for (int64_t c = 0; c < width; c++) {
            float total = 0;
            for (int64_t j = 0; j < nodes; j++) {
                const float *at = dtable + (c * nodes + j) * 4;
                dvalue[j] = at[0]; dslope[j] = at[1]; dcurve[j] = at[2];
                total += at[0];
            }
            dz0[c] = total;
            for (int64_t k = 0; k < hidden; k++) {
                float wk = w[c * hidden + k], bk = b[c * hidden + k], ok = o[c * hidden + k];
                float s = spacing[c], ws = wk * s, gw = 0, gb = 0, go = 0;
                #pragma omp simd reduction(+ : gw, gb, go)
                for (int64_t j = 0; j < nodes; j++) {
                    float at = (first[c] + (float)(int32_t)j) * s, x = wk * at + bk, f, F;
                    normal(x, &f, &F);
                    float g1 = F + x * f, g2 = (2.0f - x * x) * f, g3 = (x * x - 4.0f) * x * f;
                    float dx = ok * (dvalue[j] * g1 + dslope[j] * ws * g2 + dcurve[j] * ws * ws * g3);
                    go += dvalue[j] * x * F + dslope[j] * ws * g1 + dcurve[j] * ws * ws * g2;
                    gb += dx;
                    gw += dx * at + ok * s * (dslope[j] * g1 + 2.0f * dcurve[j] * ws * g2);
                }
                dw[c * hidden + k] = gw; db[c * hidden + k] = gb; d_o[c * hidden + k] = go;
            }
        }
        free(dvalue);
    }
}

/* ---- leaky sigmoids; floor_leak is the lower one's slope below 0 ---- */

static inline float lower_leaky(float z, float floor_leak) { return z <= 0.0f ? floor_leak * z : (z > 1.0f ? 1.0f : z); }
static inline float upper_leaky(float z) { return z > 1.0f ? 1.0f + SLOPE * (z - 1.0f) : (z <= 0.0f ? 0.0f : z); }

/* their gradients; below 0 what raises the logit leaks through in either form, what lowers it in the linear one alone */
static inline float through_sigmoids(float z, float dlower, float dupper, float floor_leak) {
    float off = dlower < 0.0f ? SLOPE * dlower : floor_leak * dlower;
    return z <= 0.0f ? off : (z <= 1.0f ? dlower + dupper : SLOPE * dupper);
}

/* ---- reading a table: quintic Hermite interpolation of the logit, cubic of its slope, and both leaky sigmoids ---- */

static inline float smooth(float t) { return t * t * t * (10.0f + t * (-15.0f + 6.0f * t)); }
static inline float rise(float t) { float u = 1.0f - t; return t * u * u * u * (1.0f + 3.0f * t); }
static inline float bend(float t) { float u = 1.0f - t; return 0.5f * t * t * u * u * u; }

/* where a point lies in its column's grid: entry of the node before it, and the fraction of the way to the next */
static inline int32_t locate(float h, float inverse, float first, int32_t nodes, float *t) {
    float u = h * inverse, k = floorf(u);
    int32_t j = (int32_t)(k - first);
    *t = u - k;
    return 4 * (j < 0 ? 0 : (j > nodes - 2 ? nodes - 2 : j));
}

/* Grids of the columns of several rows in a row, as many as fill whole vectors: [spacing's inverse, first, entry of the
 * column's table] each of `period` entries. To be freed. */
typedef struct { int64_t period; float *inverse, *first; int32_t *base; } columns;

static columns repeat_columns(int64_t width, int64_t nodes, const float *inverse, const float *first) {
    int64_t together = 1;
    while (together * width % LANES) together *= 2;
    columns all = {.period = together * width};
    all.inverse = malloc(all.period * (2 * sizeof(float) + sizeof(int32_t)));
    all.first = all.inverse + all.period;
    all.base = (int32_t *)(all.first + all.period);
    for (int64_t e = 0; e < all.period; e++) {
        int64_t c = e % width;
        all.inverse[e] = inverse[c]; all.first[e] = first[c]; all.base[e] = (int32_t)(c * 4 * nodes);
    }
    return all;
}

static void read_forward(int64_t rows, int64_t width, int64_t nodes, const float *restrict h, const float *restrict table,
                         const float *restrict inverse, const float *restrict first, int linear_leak,
                         float *restrict logits, float *restrict lower, float *restrict upper, int threads) {
    int64_t size = rows * width;
    const columns all = repeat_columns(width, nodes, inverse, first);
    const float floor_leak = linear_leak ? SLOPE : 0.0f;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < size; at += all.period) {
        int32_t here = (int32_t)(size - at < all.period ? size - at : all.period);
        #pragma omp simd
        for (int32_t i = 0; i < here; i++) {
            float t;
            int32_t e = all.base[i] + locate(h[at + i], all.inverse[i], all.first[i], (int32_t)nodes, &t);
            float z = table[e] + (table[e + 4] - table[e]) * smooth(t) + table[e + 1] * rise(t)
                      - table[e + 5] * rise(1.0f - t) + table[e + 2] * bend(t) + table[e + 6] * bend(1.0f - t);
            logits[at + i] = z;
            lower[at + i] = lower_leaky(z, floor_leak);
            upper[at + i] = upper_leaky(z);
        }
    }
    free(all.inverse);
}

typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));

/* dlogits, dlower and dupper may be null; dtable is summed per thread, then over threads in their order */
static void read_backward(int64_t rows, int64_t width, int64_t nodes, const float *restrict h, const float *restrict table,
                    const float *restrict inverse, const float *restrict first, int linear_leak,
                    const float *restrict logits, const float *restrict dlogits, const float *restrict dlower,
                    const float *restrict dupper, float *restrict dh, float *restrict dtable, float *restrict scratch,
                    int threads) {
    static const float nothing[GROUP];
    const float floor_leak = linear_leak ? SLOPE : 0.0f;
    const columns all = repeat_columns(width, nodes, inverse, first);
    const int64_t size = width * nodes * 4, entries = rows * width, blocks = (entries + all.period - 1) / all.period;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        float *restrict mine = part ? scratch + (part - 1) * size : dtable;
        float incoming[GROUP], place[GROUP];
        int32_t entry[GROUP];
        int64_t end = blocks * (part + 1) / threads * all.period;
        memset(mine, 0, size * sizeof(float));
        end = end < entries ? end : entries;
        for (int64_t at = blocks * part / threads * all.period, here; at < end; at += here) {
            int64_t from = at % all.period, left = all.period - from;
            here = left < GROUP ? left : GROUP;
            here = end - at < here ? end - at : here;
            const float *restrict to_logits = dlogits ? dlogits + at : nothing;
            const float *restrict to_lower = dlower ? dlower + at : nothing;
            const float *restrict to_upper = dupper ? dupper + at : nothing;
            #pragma omp simd
            for (int32_t i = 0; i < (int32_t)here; i++) {
                float scale = all.inverse[from + i], t;
                float dz = to_logits[i] + through_sigmoids(logits[at + i], to_lower[i], to_upper[i], floor_leak);
                int32_t e = all.base[from + i] + locate(h[at + i], scale, all.first[from + i], (int32_t)nodes, &t);
                float d0 = table[e + 1], d1 = table[e + 5], s0 = table[e + 2], s1 = table[e + 6];
                float v = 1.0f - t, blend = t * t * (3.0f - 2.0f * t);
                dh[at + i] = dz * scale * (d0 + (d1 - d0) * blend + t * v * (s0 * v - s1 * t));
                incoming[i] = dz; place[i] = t; entry[i] = e;
            }
            for (int32_t i = 0; i < (int32_t)here; i++) {
                float t = place[i], v = 1.0f - t, dz = incoming[i], w = smooth(t);
                eight share = {1.0f - w, rise(t), bend(t), 0, w, -rise(v), bend(v), 0};
                *(eight *)(mine + entry[i]) += dz * share;
            }
        }
    }
    free(all.inverse);
    for (int part = 1; part < threads; part++)
        for (int64_t e = 0; e < size; e++) dtable[e] += scratch[(part - 1) * size + e];
}

/* ---- gates of one site, from inner activations h to importances and back. grid is [3, width]: spacing, 1 / spacing, first */

void gates_forward(int64_t rows, int64_t width, int64_t hidden, int64_t nodes, const float *h, const float *w, const float *b,
                   const float *o, const float *z0, int linear_leak, float *grid, float *table, float *logits, float *lower,
                   float *upper, int threads) {
    float *spacing = grid, *inverse = grid + width, *first = grid + 2 * width;
    lay_grid(rows, width, nodes, h, spacing, inverse, first, threads);
    table_forward(width, hidden, nodes, w, b, o, z0, spacing, first, table, threads);
    read_forward(rows, width, nodes, h, table, inverse, first, linear_leak, logits, lower, upper, threads);
}

void gates_backward(int64_t rows, int64_t width, int64_t hidden, int64_t nodes, const float *h, const float *w, const float *b,
                    const float *o, int linear_leak, const float *grid, const float *table, const float *logits,
                    const float *dlogits, const float *dlower, const float *dupper, float *dh, float *dtable, float *dw,
                    float *db, float *d_o, float *dz0, int threads) {
    const float *spacing = grid, *inverse = grid + width, *first = grid + 2 * width;
    read_backward(rows, width, nodes, h, table, inverse, first, linear_leak, logits, dlogits, dlower, dupper, dh, dtable,
                  dtable + width * nodes * 4, threads);
    table_backward(width, hidden, nodes, w, b, o, spacing, first, dtable, dw, db, d_o, dz0, threads);
}

/* ---- importance penalty: sum over the columns of (g + eps)^p, added to what each row has ---- */

/* an exponent in two parts: the first has so few bits that its product with a whole number below 256 is exact */
typedef struct { float p, high, low; } exponent;

static inline exponent split(float p) {
    union { float value; int32_t bits; } high = {p};
    high.bits &= ~0xfff;
    return (exponent){p, high.value, p - high.value};
}

/* x^p for x >= 0: with x = 2^e m, m within a factor sqrt(2) of 1, it is 2^k exp(rest), k the whole number next to
 * p log2(x); the logarithm of m is the series of 2 artanh((m - 1) / (m + 1)) */
static inline float power(float x, exponent by) {
    if (by.p == 0.0f) return 1.0f;
    if (by.p == 1.0f) return x;
    if (by.p == 2.0f) return x * x;
    union { float value; int32_t bits; } m = {x < FLT_MIN ? FLT_MIN : x};
    int32_t e = (m.bits - 0x3f3504f3) >> 23;
    m.bits -= e * (1 << 23);
    float s = (m.value - 1.0f) / (m.value + 1.0f), t = s * s;
    float log_m = 2.0f * s * (1.0f + t * (0.333333333f + t * (0.2f + t * (0.142857143f + t * 0.111111111f))));
    float k = rintf(by.p * ((float)e + log_m * 1.44269504f));
    k = k < -126.0f ? -126.0f : (k > 127.0f ? 127.0f : k);
    float rest = ((by.high * (float)e - k) + by.low * (float)e) * 0.693147181f + by.p * log_m;
    float y = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666667f + rest * (0.0416666418f + rest * (0.00833345205f + rest * 0.00138878601f)))));
    union { int32_t bits; float value; } scale = {((int32_t)k + 127) << 23};
    y *= scale.value;
    y = x > 0.0f ? y : (by.p > 0.0f ? 0.0f : INFINITY);
    return x <= FLT_MAX ? y : x; /* numbers that are none come through */
}

void penalty_forward(int64_t rows, int64_t width, const float *restrict g, float p, float eps, float *restrict sums,
                     int threads) {
    const exponent by = split(p);
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < width; c++) sum += power(g[n * width + c] + eps, by);
        sums[n] += sum;
    }
}

void penalty_backward(int64_t rows, int64_t width, const float *restrict g, const float *restrict dsums, float p, float eps,
                      float *restrict dg, int threads) {
    const exponent by = split(p - 1.0f);
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float scale = dsums[n] * p;
        #pragma omp simd
        for (int64_t c = 0; c < width; c++) dg[n * width + c] = scale * power(g[n * width + c] + eps, by);
    }
}

/* ---- both leaky sigmoids of logits that are there already ---- */

void sigmoids_forward(int64_t size, const float *restrict logits, int linear_leak, float *restrict lower,
                      float *restrict upper, int threads) {
    const float floor_leak = linear_leak ? SLOPE : 0.0f;
    #pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < size; i++) {
        float z = logits[i];
        lower[i] = lower_leaky(z, floor_leak);
        upper[i] = upper_leaky(z);
    }
}

/* dlower and dupper may be null */
void sigmoids_backward(int64_t size, const float *restrict logits, int linear_leak, const float *restrict dlower,
                       const float *restrict dupper, float *restrict dlogits, int threads) {
    const float floor_leak = linear_leak ? SLOPE : 0.0f;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < size; at += GROUP) {
        static const float nothing[GROUP];
        int64_t here = size - at < GROUP ? size - at : GROUP;
        const float *restrict to_lower = dlower ? dlower + at : nothing, *restrict to_upper = dupper ? dupper + at : nothing;
        #pragma omp simd
        for (int64_t i = 0; i < here; i++) dlogits[at + i] = through_sigmoids(logits[at + i], to_lower[i], to_upper[i], floor_leak);
    }
}

/* ---- Kullback-Leibler divergence of softmax(q) from softmax(p), per row. Logarithms of probabilities are taken in the
 * order (x - highest) - log(sum), which loses nothing ---- */

/* highest, and log of the sum of exponentials of what lies below it, which are written out */
static inline void exponentials(int64_t width, const float *restrict x, float *restrict out, float *high, float *log_sum) {
    float top = -INFINITY, sum = 0;
    #pragma omp simd reduction(max : top)
    for (int64_t c = 0; c < width; c++) top = x[c] > top ? x[c] : top;
    #pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < width; c++) { float e = exp_negative(x[c] - top); out[c] = e; sum += e; }
    *high = top; *log_sum = logf(sum);
}

/* dq is the gradient for an incoming 1, softmax(q) - softmax(p); it may be null */
void divergence(int64_t rows, int64_t width, const float *restrict q, const float *restrict p, float *restrict out,
                float *restrict dq, int threads) {
    #pragma omp parallel num_threads(threads)
    {
        float *restrict of_q = malloc(2 * width * sizeof(float)), *restrict of_p = of_q + width;
        #pragma omp for schedule(static)
        for (int64_t n = 0; n < rows; n++) {
            const float *restrict a = q + n * width, *restrict b = p + n * width;
            float a_high, b_high, a_log, b_log, sum = 0;
            exponentials(width, a, of_q, &a_high, &a_log);
            exponentials(width, b, of_p, &b_high, &b_log);
            float a_share = expf(-a_log), b_share = expf(-b_log);
            #pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < width; c++) {
                float log_p = (b[c] - b_high) - b_log, log_q = (a[c] - a_high) - a_log;
                sum += log_p == -INFINITY ? 0.0f : b_share * of_p[c] * (log_p - log_q); /* what the target rules out */
            }
            out[n] = sum;
            if (dq) {
                #pragma omp simd
                for (int64_t c = 0; c < width; c++) dq[n * width + c] = a_share * of_q[c] - b_share * of_p[c];
            }
        }
        free(of_q);
    }
}
