/*
 * What the comparison of members costs: the sum over what a cut sealed (ingestor/digest.c), beside applying the
 * same samples to a head and sealing them.
 *
 *   digest [SERIES [SAMPLES [STARTS]]]   10,000 series of 480 samples: a window of two hours, each 15 s
 *
 * STARTS 1: each sample has a start time, as counters of OpenTelemetry do. Besides, an exemplar each ten series, and
 * a text about each metric of a thousand.
 * A third of the series stays as it is, a third counts, a third is any double: as a scraped node's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ingestor/ing_priv.h"
#include "libkoal/base/mem.h"

static struct ing_part part;

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sealed(void *ctx, struct ing_series *s, struct ing_chunk *c)
{
    (void)ctx;
    if (part.series_count == 0 || part.series[part.series_count - 1].series != s)
        part.series[part.series_count++] = (struct ing_sealed){ s, part.chunk_count, 0 };
    part.chunks[part.chunk_count++] = c;
    part.series[part.series_count - 1].count++;
}

static void series(struct ing_head *h, uint32_t n)
{
    static struct kl_labels_builder b;
    static struct kl_buf            out;
    const char *const               names[] = { "__name__", "device", "instance", "job", "mode" };
    char                            text[5][40];
    struct kl_labels                labels;
    struct kl_err                   err;

    snprintf(text[0], 40, "%s", n % 2 ? "node_cpu_seconds_total" : "node_load");
    snprintf(text[1], 40, "%" PRIu32, n);
    snprintf(text[2], 40, "node_%" PRIu32 ":9100", n / 500);
    snprintf(text[3], 40, "node");
    snprintf(text[4], 40, "m%" PRIu32, n % 20);
    kl_labels_start(&b);
    for (int i = 0; i < 5; i++)
        kl_labels_add(&b, kl_span_str(names[i]), kl_span_str(text[i]), &err);
    kl_buf_reset(&out);
    if (kl_labels_finish(&b, &out, &err) != KL_OK)
        abort();
    labels = (struct kl_labels){ (const uint8_t *)out.at, out.size };
    ing_head_series(h, kl_labels_fp(labels), labels);
}

static void beside(struct ing_head *h, uint32_t count)
{
    static const char trace[] = "trace_id=4bf92f3577b34da6a3ce929d0e0e4736";
    char              name[40];

    for (uint32_t n = 0; n < count / 10; n++)
        ing_extras_exemplar(h, &(struct ing_exemplar){ .fp = { n, n * 7 }, .time_ms = n, .value = n,
                                                       .labels = kl_span_str(trace) });
    for (uint32_t n = 0; n < 1000; n++) {
        snprintf(name, sizeof name, "metric_%" PRIu32 "_seconds_total", n);
        ing_extras_meta(h, &(struct ing_meta){ .type = 1, .metric = kl_span_str(name), .unit = kl_span_str("seconds"),
                                               .help = kl_span_str("How long it took, all in all, by mode.") });
    }
}

int main(int argc, char **argv)
{
    uint32_t              count = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000, samples = argc > 2 ? (uint32_t)atoi(argv[2]) : 480;
    struct ing_head      *h = ing_head_new(kl_span_str("anonymous"), 7200000, NULL);
    struct tsp_digest_sum of[TSP_DIGEST_KINDS] = { 0 };
    struct kl_err         err;
    bool                  starts = argc > 3 && atoi(argv[3]) != 0;
    double                apply, cut, digest, extras, all = (double)count * samples;

    for (uint32_t n = 0; n < count; n++)
        series(h, n);
    apply = cpu_s();
    for (uint32_t i = 0; i < samples; i++)
        for (uint32_t id = 0; id < h->made; id++) {
            ing_series_float(h, ing_series_at(h, id), (int64_t)i * 15000,
                             id % 3 == 0 ? id : id % 3 == 1 ? (double)i * (id % 97) : 1.0 / (1 + i * 7919 % 1000 + id));
            if (starts)
                ing_series_start(h, ing_series_at(h, id), (int64_t)i * 15000, -1000 * (int64_t)(id % 100 + 1));
        }
    apply = cpu_s() - apply;
    part.head = h;
    part.series = kl_new(count * sizeof *part.series);
    part.chunks = kl_new((size_t)count * samples * sizeof(struct ing_chunk *));
    cut = cpu_s();
    for (uint32_t id = 0; id < h->made; id++)
        ing_series_cut(h, ing_series_at(h, id), 1, INT64_MAX, sealed, NULL);
    cut = cpu_s() - cut;
    ing_view_take(&part.view, &h->pairs);
    digest = cpu_s();
    if (ing_part_digest(&part, of, &err) != KL_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    digest = cpu_s() - digest;
    beside(h, count);
    extras = cpu_s();
    ing_extras_digest(h, of);
    extras = cpu_s() - extras;
    printf("%.0f samples of %" PRIu32 " series in %" PRIu32 " chunks: applied in %.1f ns of CPU a sample (sealing "
           "included), cut in %.1f; digest %.2f ns a sample; %" PRIu64 " and %" PRIu64 " start times in it, %016" PRIx64
           "%016" PRIx64 "\n", all, count, part.chunk_count, apply / all * 1e9, cut / all * 1e9, digest / all * 1e9,
           of[0].count, of[TSP_DIGEST_STARTS].count, of[0].hi, of[0].lo);
    printf("%" PRIu64 " exemplars and %" PRIu64 " texts of metrics: %.0f ns each\n", of[TSP_DIGEST_EXEMPLARS].count,
           of[TSP_DIGEST_METADATA].count, extras / (double)(of[TSP_DIGEST_EXEMPLARS].count +
                                                           of[TSP_DIGEST_METADATA].count) * 1e9);
    return 0;
}
