/* Transformer blocks of small width on packed rows, and their gradient, on one CPU thread.

   A block is: x + attention(norm(x)), then x + mlp(norm(x)), in float32. Jets lie one after another in the rows;
   attention works on each jet alone, so that there is no padding anywhere. See genscale/models/fused.py. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));
typedef float loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias)); /* a vec at any address */

#define INLINE static inline __attribute__((always_inline))

/* A vector may be read up to its width beyond the end of a row; every buffer of ours ends with so many floats. */
#define SLACK WIDTH

INLINE int64_t padded(int64_t n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
INLINE vec load(const float *p) { return *(const loose *)p; }
INLINE void store(float *p, vec x) { *(loose *)p = x; }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec choose(ivec where, vec a, vec b) { return (vec)(((ivec)a & where) | ((ivec)b & ~where)); }

typedef struct {
    int64_t jets, rows, width, heads, hidden;
    int32_t causal, tanh_gelu;
    const int64_t *lengths;
} Shape;

enum { NORM1_W, NORM1_B, QKV_W, QKV_B, OUT_W, OUT_B, NORM2_W, NORM2_B, UP_W, UP_B, DOWN_W, DOWN_B, WEIGHTS };

/* ---- matrix products ------------------------------------------------------------------------------------------- */

/* C[ROWS, n] = init + A[ROWS, K] B[K, n] for n up to two vectors. All sums stay in registers. */
INLINE void tile(const int ROWS, const int TWO, int64_t K, const float *A, int64_t a_row, int64_t a_col,
                 const float *B, int64_t b_row, float *C, int64_t c_row, const float *init, int64_t i_row,
                 int64_t n) {
    vec first[8], second[8];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        first[r] = init ? load(init + r * i_row) : (vec){0};
        second[r] = init && TWO ? load(init + r * i_row + WIDTH) : (vec){0};
    }
    for (int64_t k = 0; k < K; k++) {
        const vec b = load(B + k * b_row), c = TWO ? load(B + k * b_row + WIDTH) : b;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const vec a = all(A[r * a_row + k * a_col]);
            first[r] += a * b;
            if (TWO) second[r] += a * c;
        }
    }
    const int64_t left = TWO ? n - WIDTH : n; /* columns in the last vector */
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        const vec last = TWO ? second[r] : first[r]; /* a copy: what has an address is in no register */
        float *c = C + r * c_row;
        if (TWO) store(c, first[r]), c += WIDTH;
        if (left >= WIDTH)
            store(c, last);
        else
            memcpy(c, &last, (size_t)left * sizeof(float));
    }
}

#define TILE(ROWS, VECS)                                                                                   \
    static __attribute__((noinline)) void tile_##ROWS##_##VECS(                                            \
        int64_t K, const float *A, int64_t a_row, int64_t a_col, const float *B, int64_t b_row, float *C,  \
        int64_t c_row, const float *init, int64_t i_row, int64_t n) {                                      \
        tile(ROWS, VECS - 1, K, A, a_row, a_col, B, b_row, C, c_row, init, i_row, n);                      \
    }
TILE(8, 2)
TILE(8, 1)
TILE(4, 2)
TILE(4, 1)
TILE(2, 2)
TILE(2, 1)
TILE(1, 2)
TILE(1, 1)

/* C[M, n] = init + A[M, K] B[K, n]; A may be transposed (a_row = 1). Rows of init are i_row apart: 0 for a bias. */
static void product(int64_t M, int64_t n, int64_t K, const float *A, int64_t a_row, int64_t a_col, const float *B,
                    int64_t b_row, float *C, int64_t c_row, const float *init, int64_t i_row) {
    for (int64_t j = 0; j < n; j += 2 * WIDTH) {
        const int64_t left = n - j;
        int64_t i = 0;
#define ROWS(R)                                                                                                  \
    for (; i + R <= M; i += R)                                                                                   \
        (left > WIDTH ? tile_##R##_2 : tile_##R##_1)(K, A + i * a_row, a_row, a_col, B + j, b_row,               \
                                                     C + i * c_row + j, c_row, init ? init + i * i_row + j : 0, \
                                                     i_row, left < 2 * WIDTH ? left : 2 * WIDTH);
        ROWS(8)
        ROWS(4)
        ROWS(2)
        ROWS(1)
#undef ROWS
    }
}

/* Rows of a matrix [n, m] copied, or its columns, to rows padded to whole vectors. */
static void copy_padded(const float *W, int64_t n, int64_t m, float *to) {
    for (int64_t i = 0; i < n; i++) memcpy(to + i * padded(m), W + i * m, (size_t)m * sizeof(float));
}

static void transpose_padded(const float *W, int64_t w_row, int64_t n, int64_t m, float *to) {
    const int64_t step = padded(n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) to[j * step + i] = W[i * w_row + j];
}

/* Y[rows, n] = X[rows, m] W^T + b, as torch.nn.functional.linear. */
static void linear(int64_t rows, int64_t n, int64_t m, const float *X, const float *W, const float *b, float *Y,
                   float *scratch) {
    float *bias = scratch + m * padded(n);
    transpose_padded(W, m, n, m, scratch);
    if (b) memcpy(bias, b, (size_t)n * sizeof(float));
    product(rows, n, m, X, m, 1, scratch, padded(n), Y, n, b ? bias : 0, 0);
}

/* Gradients of linear: dX[rows, m] = dY W, dW = dY^T X, db = column sums of dY. */
static void linear_backward(int64_t rows, int64_t n, int64_t m, const float *dY, const float *X, const float *W,
                            float *dX, float *dW, float *db, float *scratch) {
    copy_padded(W, n, m, scratch);
    product(rows, m, n, dY, n, 1, scratch, padded(m), dX, m, 0, 0);
    product(n, m, rows, dY, 1, n, X, m, dW, m, 0, 0);
    if (!db) return;
    memset(db, 0, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) db[j] += dY[i * n + j];
}

/* ---- functions of one number ----------------------------------------------------------------------------------- */

/* e^x to 1e-7 up to x = 80, then as there; 0 below -80, so that nothing is denormal. */
INLINE vec exponential(vec x) {
    const ivec none = x < -80.0f;
    x = choose(x > 80.0f, all(80.0f), choose(none, all(0.0f), x));
    const ivec whole = __builtin_convertvector(x * 1.44269504f + choose(x < 0.0f, all(-0.5f), all(0.5f)), ivec);
    const vec n = __builtin_convertvector(whole, vec);
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return choose(none, all(0.0f), (vec)((ivec)p + (whole << 23)));
}

/* x Phi(x) and its derivative, Phi by Abramowitz and Stegun 7.1.26 (to 1e-7). */
INLINE void gelu(vec x, vec *value, vec *slope) {
    const vec z = choose(x < 0.0f, -x, x);
    const vec t = 1.0f / (1.0f + (0.3275911f * 0.70710678f) * z);
    const vec bell = exponential(-0.5f * x * x);
    vec tail = t * 1.061405429f - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = 0.5f * (tail * t + 0.254829592f) * t * bell;
    const vec phi = choose(x < 0.0f, tail, 1.0f - tail);
    *value = x * phi;
    *slope = phi + x * bell * 0.39894228f;
}

/* The approximation with tanh: x / (1 + exp(-2 z)), z = sqrt(2 / pi) (x + 0.044715 x^3). */
INLINE void gelu_tanh(vec x, vec *value, vec *slope) {
    const vec z = 0.79788456f * x * (1.0f + 0.044715f * x * x);
    const vec s = 1.0f / (1.0f + exponential(-2.0f * z));
    *value = x * s;
    *slope = s + 2.0f * x * s * (1.0f - s) * 0.79788456f * (1.0f + 0.134145f * x * x);
}

INLINE void activate(int64_t n, int tanh_form, float *x, float *slopes) {
    for (int64_t i = 0; i < n; i += WIDTH) {
        vec value, slope;
        if (tanh_form)
            gelu_tanh(load(x + i), &value, &slope);
        else
            gelu(load(x + i), &value, &slope);
        const size_t here = (size_t)(n - i < WIDTH ? n - i : WIDTH) * sizeof(float);
        memcpy(x + i, &value, here);
        memcpy(slopes + i, &slope, here);
    }
}

/* ---- layer norm ------------------------------------------------------------------------------------------------ */

static void norm(int64_t rows, int64_t d, const float *x, const float *w, const float *b, float *y, float *mean,
                 float *rstd) {
    for (int64_t i = 0; i < rows; i++, x += d, y += d) {
        float m = 0, v = 0;
        for (int64_t j = 0; j < d; j++) m += x[j];
        m /= (float)d;
        for (int64_t j = 0; j < d; j++) v += (x[j] - m) * (x[j] - m);
        const float r = 1.0f / sqrtf(v / (float)d + 1e-5f);
        for (int64_t j = 0; j < d; j++) y[j] = (x[j] - m) * r * w[j] + b[j];
        mean[i] = m, rstd[i] = r;
    }
}

/* dx = direct + gradient through the norm. */
static void norm_backward(int64_t rows, int64_t d, const float *dy, const float *x, const float *w, const float *mean,
                          const float *rstd, const float *direct, float *dx, float *dw, float *db) {
    memset(dw, 0, (size_t)d * sizeof(float));
    memset(db, 0, (size_t)d * sizeof(float));
    for (int64_t i = 0; i < rows; i++, x += d, dy += d, dx += d, direct += d) {
        const float m = mean[i], r = rstd[i];
        float a = 0, c = 0;
        for (int64_t j = 0; j < d; j++) {
            const float unit = (x[j] - m) * r, g = dy[j] * w[j];
            a += g, c += g * unit;
            dw[j] += dy[j] * unit, db[j] += dy[j];
        }
        a /= (float)d, c /= (float)d;
        for (int64_t j = 0; j < d; j++) dx[j] = direct[j] + r * (dy[j] * w[j] - a - (x[j] - m) * r * c);
    }
}

/* ---- attention ------------------------------------------------------------------------------------------------- */

#define TILE_ROWS 8 /* rows of a causal product that are given the same last column */

static int64_t longest(const Shape *s) {
    int64_t most = 0;
    for (int64_t j = 0; j < s->jets; j++) most = s->lengths[j] > most ? s->lengths[j] : most;
    return most;
}

static int64_t n_scores(const Shape *s) {
    int64_t n = 0;
    for (int64_t j = 0; j < s->jets; j++) n += s->lengths[j] * padded(s->lengths[j]);
    return n * s->heads;
}

/* Probabilities in place of the scores of n columns, of which the first `seen` count; the logarithm of their sum. */
INLINE float softmax(float *p, int64_t n, int64_t seen, float scale) {
    for (int64_t j = seen; j < padded(seen); j++) p[j] = -INFINITY;
    vec most = load(p);
    for (int64_t j = WIDTH; j < seen; j += WIDTH) {
        const vec x = load(p + j);
        most = choose(x > most, x, most);
    }
    float top = most[0];
    for (int v = 1; v < WIDTH; v++) top = most[v] > top ? most[v] : top;
    vec sums = {0};
    for (int64_t j = 0; j < seen; j += WIDTH) {
        const vec e = exponential((load(p + j) - top) * scale);
        store(p + j, e);
        sums += e;
    }
    float sum = 0;
    for (int v = 0; v < WIDTH; v++) sum += sums[v];
    const float factor = 1.0f / sum;
    for (int64_t j = 0; j < seen; j += WIDTH) store(p + j, load(p + j) * factor);
    for (int64_t j = seen; j < n; j++) p[j] = 0.0f;
    return top * scale + logf(sum);
}

static void attend(const Shape *s, const float *qkv, float *p, float *out, float *scratch) {
    const int64_t d = s->width, head = d / s->heads, row = 3 * d;
    const float scale = 1.0f / sqrtf((float)head);
    for (int64_t jet = 0; jet < s->jets; jet++) {
        const int64_t n = s->lengths[jet], step = padded(n), rows = s->causal ? TILE_ROWS : n;
        for (int64_t h = 0; h < s->heads; h++, p += n * step) {
            const float *q = qkv + h * head, *k = q + d, *v = q + 2 * d;
            transpose_padded(k, row, n, head, scratch);
            for (int64_t i = 0; i < n; i += rows) {
                const int64_t m = n - i < rows ? n - i : rows, seen = s->causal ? i + m : n;
                product(m, padded(seen), head, q + i * row, row, 1, scratch, step, p + i * step, step, 0, 0);
                for (int64_t r = i; r < i + m; r++)
                    softmax(p + r * step, padded(seen), s->causal ? r + 1 : n, scale);
                product(m, head, seen, p + i * step, step, 1, v, row, out + i * d + h * head, d, 0, 0);
            }
        }
        qkv += n * row, out += n * d;
    }
}

static void attend_backward(const Shape *s, const float *qkv, const float *p, const float *dout, float *dqkv,
                            float *scratch) {
    const int64_t d = s->width, head = d / s->heads, row = 3 * d;
    const float scale = 1.0f / sqrtf((float)head);
    for (int64_t jet = 0; jet < s->jets; jet++) {
        const int64_t n = s->lengths[jet], step = padded(n), rows = s->causal ? TILE_ROWS : n;
        float *ds = scratch + head * step;
        for (int64_t h = 0; h < s->heads; h++, p += n * step) {
            const float *q = qkv + h * head, *k = q + d, *v = q + 2 * d, *dy = dout + h * head;
            float *dq = dqkv + h * head, *dk = dq + d, *dv = dq + 2 * d;
            transpose_padded(v, row, n, head, scratch);
            for (int64_t i = 0; i < n; i += rows) {
                const int64_t m = n - i < rows ? n - i : rows, seen = s->causal ? i + m : n;
                product(m, padded(seen), head, dy + i * d, d, 1, scratch, step, ds + i * step, step, 0, 0);
                for (int64_t r = i; r < i + m; r++) {
                    float dot = 0;
                    float *to = ds + r * step;
                    const float *from = p + r * step;
                    for (int64_t j = 0; j < seen; j++) dot += from[j] * to[j];
                    for (int64_t j = 0; j < seen; j++) to[j] = from[j] * (to[j] - dot) * scale;
                }
                product(m, head, seen, ds + i * step, step, 1, k, row, dq + i * row, row, 0, 0);
            }
            for (int64_t j = 0; j < n; j += rows) { /* keys of these places are seen from the place of the first on */
                const int64_t m = n - j < rows ? n - j : rows, first = s->causal ? j : 0, at = first * step + j;
                product(m, head, n - first, ds + at, 1, step, q + first * row, row, dk + j * row, row, 0, 0);
                product(m, head, n - first, p + at, 1, step, dy + first * d, d, dv + j * row, row, 0, 0);
            }
        }
        qkv += n * row, dqkv += n * row, dout += n * d;
    }
}

/* ---- blocks ---------------------------------------------------------------------------------------------------- */

/* What the backward pass of a block needs of the forward pass. */
typedef struct {
    float *norm1, *qkv, *p, *attended, *middle, *norm2, *hidden, *slopes, *out, *mean1, *rstd1, *mean2, *rstd2;
} Saved;

static float *take(float **at, int64_t n) {
    float *here = *at;
    *at += padded(n) + SLACK;
    return here;
}

static Saved saved_at(const Shape *s, float **at) {
    const int64_t n = s->rows, x = n * s->width, hidden = n * s->hidden;
    Saved v;
    v.norm1 = take(at, x), v.qkv = take(at, 3 * x), v.p = take(at, n_scores(s)), v.attended = take(at, x);
    v.middle = take(at, x), v.norm2 = take(at, x), v.hidden = take(at, hidden), v.slopes = take(at, hidden);
    v.out = take(at, x), v.mean1 = take(at, n), v.rstd1 = take(at, n), v.mean2 = take(at, n), v.rstd2 = take(at, n);
    return v;
}

/* Floats of memory that one block saves. */
int64_t saved_size(const Shape *s) {
    const int64_t n = s->rows;
    return n * (8 * s->width + 2 * s->hidden + 4) + n_scores(s) + 13 * (WIDTH + SLACK);
}

static int64_t weights_scratch(const Shape *s) {
    const int64_t d = padded(s->width), hidden = padded(s->hidden), wide = 3 * d > hidden ? 3 * d : hidden;
    const int64_t attention = padded(longest(s)) * (s->width + longest(s));
    const int64_t matrix = (wide + WIDTH) * (d + 1);
    return (matrix > attention ? matrix : attention) + SLACK;
}

/* Floats of memory that forward and backward need besides. */
int64_t scratch_size(const Shape *s) {
    return weights_scratch(s) + s->rows * (6 * s->width + s->hidden) + 8 * SLACK + 8 * WIDTH;
}

static void block_forward(const Shape *s, const float *x, const float *const *w, Saved v, float *scratch) {
    const int64_t n = s->rows, d = s->width;
    norm(n, d, x, w[NORM1_W], w[NORM1_B], v.norm1, v.mean1, v.rstd1);
    linear(n, 3 * d, d, v.norm1, w[QKV_W], w[QKV_B], v.qkv, scratch);
    attend(s, v.qkv, v.p, v.attended, scratch);
    linear(n, d, d, v.attended, w[OUT_W], w[OUT_B], v.middle, scratch);
    for (int64_t i = 0; i < n * d; i++) v.middle[i] += x[i];
    norm(n, d, v.middle, w[NORM2_W], w[NORM2_B], v.norm2, v.mean2, v.rstd2);
    linear(n, s->hidden, d, v.norm2, w[UP_W], w[UP_B], v.hidden, scratch);
    activate(n * s->hidden, s->tanh_gelu, v.hidden, v.slopes);
    linear(n, d, s->hidden, v.hidden, w[DOWN_W], w[DOWN_B], v.out, scratch);
    for (int64_t i = 0; i < n * d; i++) v.out[i] += v.middle[i];
}

static void block_backward(const Shape *s, const float *x, const float *const *w, Saved v, const float *dy, float *dx,
                           float *const *g, float *scratch) {
    const int64_t n = s->rows, d = s->width;
    float *at = scratch + weights_scratch(s);
    float *dhidden = take(&at, n * s->hidden), *dnorm = take(&at, n * d), *dmiddle = take(&at, n * d);
    float *dqkv = take(&at, 3 * n * d);
    linear_backward(n, d, s->hidden, dy, v.hidden, w[DOWN_W], dhidden, g[DOWN_W], g[DOWN_B], scratch);
    for (int64_t i = 0; i < n * s->hidden; i++) dhidden[i] *= v.slopes[i];
    linear_backward(n, s->hidden, d, dhidden, v.norm2, w[UP_W], dnorm, g[UP_W], g[UP_B], scratch);
    norm_backward(n, d, dnorm, v.middle, w[NORM2_W], v.mean2, v.rstd2, dy, dmiddle, g[NORM2_W], g[NORM2_B]);
    linear_backward(n, d, d, dmiddle, v.attended, w[OUT_W], dnorm, g[OUT_W], g[OUT_B], scratch);
    attend_backward(s, v.qkv, v.p, dnorm, dqkv, scratch);
    linear_backward(n, 3 * d, d, dqkv, v.norm1, w[QKV_W], dnorm, g[QKV_W], g[QKV_B], scratch);
    norm_backward(n, d, dnorm, x, w[NORM1_W], v.mean1, v.rstd1, dmiddle, dx, g[NORM1_W], g[NORM1_B]);
}

/* All blocks; weights are WEIGHTS pointers a block. With keep, `saved` has room for every block, else for two. */
void forward(const Shape *s, int64_t blocks, const float *x, const float *const *weights, float *saved, int32_t keep,
             float *y, float *scratch) {
    const int64_t size = saved_size(s);
    for (int64_t b = 0; b < blocks; b++) {
        float *here = saved + (keep ? b : b % 2) * size;
        Saved v = saved_at(s, &here);
        if (b == blocks - 1) v.out = y;
        block_forward(s, x, weights + b * WEIGHTS, v, scratch);
        x = v.out;
    }
}

/* Gradients of all blocks: of the input, and of each weight at the place of its pointer in `gradients`. */
void backward(const Shape *s, int64_t blocks, const float *x, const float *const *weights, float *saved,
              const float *dy, float *dx, float *const *gradients, float *scratch) {
    const int64_t size = saved_size(s);
    for (int64_t b = blocks - 1; b >= 0; b--) {
        float *here = saved + b * size, *before = here - size;
        const float *input = b ? saved_at(s, &before).out : x;
        block_backward(s, input, weights + b * WEIGHTS, saved_at(s, &here), dy, dx, gradients + b * WEIGHTS, scratch);
        dy = dx;
    }
}

/* ---- the head: logits, likelihood and their gradients ----------------------------------------------------------- */

#define AT_ONCE 65536 /* logits that exist at one time */

static int64_t rows_at_once(int64_t vocabulary) {
    const int64_t rows = AT_ONCE / padded(vocabulary) / 8 * 8;
    return rows > 8 ? rows : 8;
}

/* Floats of memory that the head needs besides. */
int64_t head_scratch_size(int64_t d, int64_t vocabulary) {
    const int64_t matrices = (d + 1) * padded(vocabulary) + 2 * vocabulary * padded(d);
    return matrices + rows_at_once(vocabulary) * (padded(vocabulary) + 2 * padded(d)) + 8 * (WIDTH + SLACK);
}

/* -ln p of the targets under softmax(hidden W^T + bias), row by row; where grad_hidden is given, also the gradients of
   their sum. */
void head(int64_t rows, int64_t d, int64_t vocabulary, const float *hidden, const float *W, const float *bias,
          const int64_t *targets, float *nats, float *grad_hidden, float *grad_W, float *grad_bias, float *scratch) {
    const int64_t step = padded(vocabulary), wide = padded(d), most = rows_at_once(vocabulary);
    float *transposed = take(&scratch, d * step), *first = take(&scratch, vocabulary), *weights = 0, *sums = 0;
    float *logits = take(&scratch, most * step), *grads = take(&scratch, most * wide);
    float *x = take(&scratch, most * wide);
    transpose_padded(W, d, vocabulary, d, transposed);
    if (bias) memcpy(first, bias, (size_t)vocabulary * sizeof(float));
    if (grad_hidden) {
        weights = take(&scratch, vocabulary * wide), sums = take(&scratch, vocabulary * wide);
        copy_padded(W, vocabulary, d, weights);
        memset(sums, 0, (size_t)(vocabulary * wide) * sizeof(float));
        if (bias) memset(grad_bias, 0, (size_t)vocabulary * sizeof(float));
    }
    for (int64_t low = 0; low < rows; low += most) {
        const int64_t m = rows - low < most ? rows - low : most;
        copy_padded(hidden + low * d, m, d, x);
        product(m, step, d, x, wide, 1, transposed, step, logits, step, bias ? first : 0, 0);
        for (int64_t r = 0; r < m; r++) {
            float *p = logits + r * step;
            const int64_t wanted = targets[low + r];
            nats[low + r] = -p[wanted];
            nats[low + r] += softmax(p, step, vocabulary, 1.0f);
            p[wanted] -= 1.0f; /* now the gradient of the logits */
        }
        if (!grad_hidden) continue;
        product(m, d, vocabulary, logits, step, 1, weights, wide, grads, wide, 0, 0);
        for (int64_t r = 0; r < m; r++)
            memcpy(grad_hidden + (low + r) * d, grads + r * wide, (size_t)d * sizeof(float));
        product(vocabulary, wide, m, logits, 1, step, x, wide, sums, wide, sums, wide);
        if (bias)
            for (int64_t r = 0; r < m; r++)
                for (int64_t j = 0; j < vocabulary; j++) grad_bias[j] += logits[r * step + j];
    }
    if (grad_hidden)
        for (int64_t j = 0; j < vocabulary; j++) memcpy(grad_W + j * d, sums + j * wide, (size_t)d * sizeof(float));
}
