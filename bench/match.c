/*
 * Label matchers over the live head of one partition: set operations alone, no pages.
 *
 *   match [SERIES]
 *
 * The series are bench/push.c's. Prints one JSON line a selector: the best of some runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestor/head_priv.h"

enum { RUNS = 7, MATCHERS_MAX = 3 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void add(struct ing_head *h, unsigned long n)
{
    static const char *const modes[] = { "user", "system", "idle", "iowait" };
    static struct kl_labels_builder b;
    static struct kl_buf            out;
    static char                     text[10][64];
    struct kl_labels                labels;
    struct kl_err                   err;
    const char *const               names[10] = { "__name__", "cluster", "container", "cpu", "instance",
                                                  "job", "mode", "namespace", "pod", "zone" };

    snprintf(text[0], 64, "bench_metric_%lu", n % 100);
    snprintf(text[1], 64, "eu-west-1");
    snprintf(text[2], 64, "main");
    snprintf(text[3], 64, "%lu", n % 16);
    snprintf(text[4], 64, "10.0.%lu.%lu:9100", n / 1000 % 250, n / 250000 % 250);
    snprintf(text[5], 64, "%s-%lu", n % 3 == 0 ? "api" : "node", n % 20);
    snprintf(text[6], 64, "%s", modes[n % 4]);
    snprintf(text[7], 64, "team-%lu", n % 40);
    snprintf(text[8], 64, "service-%lu-%08lx", n % 50, n);
    snprintf(text[9], 64, "zone-%lu", n % 3);
    kl_labels_start(&b);
    for (int i = 0; i < 10; i++)
        kl_labels_add(&b, kl_span_str(names[i]), kl_span_str(text[i]), &err);
    kl_buf_reset(&out);
    if (kl_labels_finish(&b, &out, &err) != KL_OK)
        abort();
    labels = (struct kl_labels){ (const uint8_t *)out.at, out.size };
    ing_head_series(h, kl_labels_fp(labels), labels);
}

struct selector { const char *words; struct kl_matcher m[MATCHERS_MAX]; size_t count; };
#define M(op, name, value) { KL_MATCH_##op, { name, sizeof name - 1 }, { value, sizeof value - 1 }, NULL }

int main(int argc, char **argv)
{
    unsigned long    series = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    struct ing_head *h = ing_head_new(kl_span_str("bench"), 7200000, NULL);
    double           begin = now();
    struct selector  all[] = {
        { "{job=~\"a.*\",instance!=\"10.0.7.0:9100\"}",
          { M(RE, "job", "a.*"), M(NE, "instance", "10.0.7.0:9100") }, 2 },
        { "bench_metric_42{mode=~\"user|idle\",zone!~\"zone-[01]\"}",
          { M(EQ, "__name__", "bench_metric_42"), M(RE, "mode", "user|idle"), M(NRE, "zone", "zone-[01]") }, 3 },
        { "{pod=~\"service-7-000.*\"}", { M(RE, "pod", "service-7-000.*") }, 1 },
        { "{pod=~\".*-0000abcd\"}", { M(RE, "pod", ".*-0000abcd") }, 1 },
        { "bench_metric_42{pod=~\".*[0-4]a.?\"}",
          { M(EQ, "__name__", "bench_metric_42"), M(RE, "pod", ".*[0-4]a.?") }, 2 },
        { "{pod!=\"\"}", { M(NE, "pod", "") }, 1 },
    };

    for (unsigned long n = 0; n < series; n++)
        add(h, n);
    printf("{\"series\": %lu, \"born_us_each\": %.2f}\n", series, (now() - begin) * 1e3 / (double)series);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct kl_err err;
        uint64_t      found = 0;
        double        best = 1e9, first = 0;

        for (size_t k = 0; k < all[i].count; k++)
            if (all[i].m[k].op >= KL_MATCH_RE) {
                struct kl_regex *re;

                if (kl_regex_new(all[i].m[k].value, &re, &err) != KL_OK)
                    abort();
                all[i].m[k].re = re;
            }
        for (int run = 0; run < RUNS; run++) {
            double            from = now();
            roaring_bitmap_t *r = ing_match(h, all[i].m, all[i].count);
            double            took = now() - from;

            found = roaring_bitmap_get_cardinality(r);
            roaring_bitmap_free(r);
            first = run == 0 ? took : first;
            best = took < best ? took : best;
        }
        printf("{\"selector\": \"");
        for (const char *c = all[i].words; *c != '\0'; c++)
            printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        printf("\", \"found\": %llu, \"first_ms\": %.3f, \"best_ms\": %.3f}\n", (unsigned long long)found,
               first, best);
    }
    ing_head_free(h);
    return 0;
}
