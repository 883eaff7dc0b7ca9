#include "libkoal/base/metrics.h"

#include "libkoal/base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kl_metric_hist {
    unsigned count;
    double  *bounds;
    _Atomic uint64_t *buckets;                         /* one more than bounds: +Inf */
    struct kl_metric sum;                              /* double bits */
};

struct series {
    struct series         *next;                       /* of the family, in the order registered */
    char                  *labels;
    struct kl_metric       value;
    struct kl_metric_hist *hist;
};

enum family_kind { COUNTER = KL_COUNTER, GAUGE = KL_GAUGE, HISTOGRAM };
struct family {
    struct family   *next;                             /* by name */
    char            *name, *help;
    enum family_kind kind;
    struct series   *first;
};

/* Registration is rare and short; the flag keeps two of them apart, and readers out of them. */
struct kl_metrics { atomic_flag busy; struct family *first; };

static void enter(struct kl_metrics *m)
{
    while (atomic_flag_test_and_set_explicit(&m->busy, memory_order_acquire)) { }
}

static void leave(struct kl_metrics *m) { atomic_flag_clear_explicit(&m->busy, memory_order_release); }

struct kl_metrics *kl_metrics_new(void)
{
    struct kl_metrics *m = kl_new(sizeof *m);

    atomic_flag_clear(&m->busy);
    return m;
}

void kl_metrics_free(struct kl_metrics *m)
{
    struct family *next;

    if (m == NULL)
        return;
    for (struct family *f = m->first; f != NULL; f = next) {
        for (struct series *s = f->first, *after; s != NULL; s = after) {
            after = s->next;
            if (s->hist != NULL) {
                free(s->hist->bounds);
                free(s->hist->buckets);
                free(s->hist);
            }
            free(s->labels);
            free(s);
        }
        next = f->next;
        free(f->name);
        free(f->help);
        free(f);
    }
    free(m);
}

static struct series *find(struct kl_metrics *m, enum family_kind kind, const char *name,
                           const char *labels, const char *help)
{
    struct family **at = &m->first, *f;
    struct series **s;

    while (*at != NULL && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    f = *at;
    if (f == NULL || strcmp(f->name, name) != 0) {
        f = kl_new(sizeof *f);
        *f = (struct family){ .next = *at, .name = kl_strdup(name), .help = kl_strdup(help),
                              .kind = kind };
        *at = f;
    }
    for (s = &f->first; *s != NULL; s = &(*s)->next)
        if (strcmp((*s)->labels, labels) == 0)
            return *s;
    *s = kl_new(sizeof **s);
    (*s)->labels = kl_strdup(labels);
    return *s;
}

struct kl_metric *kl_metrics_add(struct kl_metrics *m, enum kl_metric_kind kind, const char *name,
                                 const char *labels, const char *help)
{
    struct series *s;

    enter(m);
    s = find(m, (enum family_kind)kind, name, labels, help);
    leave(m);
    return &s->value;
}

struct kl_metric_hist *kl_metrics_hist(struct kl_metrics *m, const char *name, const char *labels,
                                       const char *help, const double *bounds, unsigned count)
{
    struct series *s;

    enter(m);
    s = find(m, HISTOGRAM, name, labels, help);
    if (s->hist == NULL) {
        s->hist = kl_new(sizeof *s->hist);
        s->hist->count = count;
        s->hist->bounds = kl_new((count + 1) * sizeof *bounds);
        s->hist->buckets = kl_new((count + 1) * sizeof s->hist->buckets[0]);
        memcpy(s->hist->bounds, bounds, count * sizeof *bounds);
    }
    leave(m);
    return s->hist;
}

static double bits_double(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint64_t double_bits(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return bits;
}

void kl_gauge_set(struct kl_metric *g, double v)
{
    atomic_store_explicit(&g->bits, double_bits(v), memory_order_relaxed);
}

void kl_metric_observe(struct kl_metric_hist *h, double v)
{
    uint64_t old = atomic_load_explicit(&h->sum.bits, memory_order_relaxed);
    unsigned i = 0;

    while (i < h->count && !(v <= h->bounds[i]))
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&h->sum.bits, &old,
                                                  double_bits(bits_double(old) + v),
                                                  memory_order_relaxed, memory_order_relaxed)) { }
}

static void put_value(struct kl_buf *out, double v)
{
    char text[KL_F64_TEXT_MAX];

    kl_buf_add(out, text, kl_f64_text(v, text));
    kl_buf_add8(out, '\n');
}

static void write_hist(const struct family *f, const struct series *s, struct kl_buf *out)
{
    const struct kl_metric_hist *h = s->hist;
    const char *comma = s->labels[0] == '\0' ? "" : ",";
    uint64_t    total = 0;

    for (unsigned i = 0; i <= h->count; i++) {
        char   text[KL_F64_TEXT_MAX];
        size_t n = kl_f64_text(i < h->count ? h->bounds[i] : (double)INFINITY, text);
        total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        kl_buf_addf(out, "%s_bucket{%s%sle=\"%.*s\"} %" PRIu64 "\n", f->name, s->labels, comma,
                    (int)n, text, total);
    }
    kl_buf_addf(out, "%s_sum%s%s%s ", f->name, *comma ? "{" : "", s->labels, *comma ? "}" : "");
    put_value(out, bits_double(atomic_load_explicit(&h->sum.bits, memory_order_relaxed)));
    kl_buf_addf(out, "%s_count%s%s%s %" PRIu64 "\n", f->name, *comma ? "{" : "", s->labels,
                *comma ? "}" : "", total);
}

void kl_metrics_write(const struct kl_metrics *m, struct kl_buf *out)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    struct kl_metrics *locked = (struct kl_metrics *)m;      /* only its flag changes */

    enter(locked);
    for (const struct family *f = m->first; f != NULL; f = f->next) {
        kl_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, types[f->kind]);
        for (const struct series *s = f->first; s != NULL; s = s->next) {
            uint64_t bits = atomic_load_explicit(&s->value.bits, memory_order_relaxed);
            if (f->kind == HISTOGRAM) {
                write_hist(f, s, out);
                continue;
            }
            kl_buf_adds(out, f->name);
            if (s->labels[0] != '\0')
                kl_buf_addf(out, "{%s}", s->labels);
            if (f->kind == COUNTER) {
                kl_buf_addf(out, " %" PRIu64 "\n", bits);
            } else {
                kl_buf_add8(out, ' ');
                put_value(out, bits_double(bits));
            }
        }
    }
    leave(locked);
}
