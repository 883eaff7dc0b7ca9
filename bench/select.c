/*
 * Writing and selecting at scale: SERIES made-up series of ten labels (a thousand a host), one chunk
 * of 30 samples each. Prints JSON lines: what writing, opening and each selection takes.
 *
 *   select SERIES [FOLDER]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "libblock/fileset.h"

enum { METRICS = 200, CPUS = 5, SAMPLES = 30 };

static struct kl_err err;

static void die(const char *what)
{
    fprintf(stderr, "select: %s: %s\n", what, err.text);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double peak_mib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

static void labels_of(uint32_t metric, uint32_t cpu, uint32_t host, struct kl_buf *out)
{
    static struct kl_labels_builder b;
    char name[40], c[16], instance[40], pod[48];

    snprintf(name, sizeof name, "metric_%03u_seconds_total", metric);
    snprintf(c, sizeof c, "%02u", cpu);
    snprintf(instance, sizeof instance, "10.%u.%u.17:9100", host / 250, host % 250);
    snprintf(pod, sizeof pod, "node-exporter-%08x", host * 2654435761u);
    const char *pairs[][2] = {
        { "__name__", name }, { "cluster", "production-eu-1" }, { "cpu", c }, { "instance", instance },
        { "job", host % 3 ? "node" : "agent" }, { "mode", metric % 2 ? "user" : "idle" },
        { "namespace", "monitoring" }, { "pod", pod }, { "region", host % 2 ? "eu-west" : "eu-north" },
        { "service", "node-exporter" },
    };

    kl_labels_start(&b);
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
        kl_labels_add(&b, kl_span_str(pairs[i][0]), kl_span_str(pairs[i][1]), &err);
    kl_buf_reset(out);
    if (kl_labels_finish(&b, out, &err) != KL_OK)
        die("labels");
}

static int by_text(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    char     s[16], t[16];

    snprintf(s, sizeof s, "%u.%u.", x / 250, x % 250);
    snprintf(t, sizeof t, "%u.%u.", y / 250, y % 250);
    return strcmp(s, t);
}

static struct blk_info write_all(struct kl_env_dir *root, uint32_t hosts)
{
    struct blk_info    info = { .tenant = "bench", .id = 1, .window_ms = 7200000 }, done;
    struct blk_writer *w;
    struct kl_buf      labels = { 0 }, chunk = { 0 };
    uint32_t          *order = kl_resize(NULL, hosts * sizeof *order);
    int64_t            times[SAMPLES];
    double             values[SAMPLES], from = now();
    uint64_t           n = 0;

    for (uint32_t h = 0; h < hosts; h++)
        order[h] = h;
    qsort(order, hosts, sizeof *order, by_text);
    if (blk_writer_open(root, &info, &w, &err) != KL_OK)
        die("open");
    for (uint32_t m = 0; m < METRICS; m++)
        for (uint32_t c = 0; c < CPUS; c++)
            for (uint32_t h = 0; h < hosts; h++, n++) {
                for (uint32_t i = 0; i < SAMPLES; i++) {
                    times[i] = (int64_t)i * 15000 + order[h] % 15000;
                    values[i] = (double)(i * (n % 7)) + (double)((i * 7 + n) % 3);
                }
                labels_of(m, c, order[h], &labels);
                kl_buf_reset(&chunk);
                blk_chunk_encode(times, values, NULL, SAMPLES, &chunk);
                struct kl_labels     l = { (uint8_t *)labels.at, labels.size };
                struct blk_chunk_ref ref = { kl_buf_span(&chunk), times[0], times[SAMPLES - 1], SAMPLES,
                                             BLK_FLOATS };
                if (blk_writer_series(w, l, kl_labels_fp(l), &ref, 1, &err) != KL_OK)
                    die("series");
            }
    if (blk_writer_finish(w, &done, &err) != KL_OK)
        die("finish");
    printf("{\"bench\":\"select\",\"what\":\"write\",\"series\":%llu,\"us_per_series\":%.2f,"
           "\"peak_mib\":%.0f}\n", (unsigned long long)n, (now() - from) * 1e6 / (double)n, peak_mib());
    kl_buf_deinit(&labels);
    kl_buf_deinit(&chunk);
    free(order);
    return done;
}

static void run(struct blk_fileset *f, const char *name, const struct kl_matcher *m, size_t count,
                bool chunks)
{
    struct blk_select  *s;
    struct blk_selected one;
    double              from = now(), opened;
    uint64_t            n = 0;

    if (blk_select_open(f, m, count, INT64_MIN, INT64_MAX, chunks, &s, &err) != KL_OK)
        die(name);
    opened = now();
    while (blk_select_next(s, &one, &err) == KL_OK)
        n++;
    if (err.code != KL_ENOENT)
        die(name);
    blk_select_close(s);
    printf("{\"bench\":\"select\",\"what\":\"%s\",\"chunks\":%s,\"series\":%llu,\"open_ms\":%.2f,"
           "\"rest_ms\":%.2f,\"us_per_series\":%.3f}\n", name, chunks ? "true" : "false",
           (unsigned long long)n, (opened - from) * 1e3, (now() - opened) * 1e3,
           n ? (now() - from) * 1e6 / (double)n : 0);
}

static struct kl_matcher matcher(enum kl_match_op op, const char *name, const char *value)
{
    struct kl_matcher m = { .op = op, .name = kl_span_str(name), .value = kl_span_str(value) };
    struct kl_regex  *re = NULL;

    if (op >= KL_MATCH_RE && kl_regex_new(m.value, &re, &err) != KL_OK)
        die(value);
    m.re = re;
    return m;
}

static void ignore(void *ctx, struct kl_span text)
{
    (void)text;
    ++*(uint64_t *)ctx;
}

int main(int argc, char **argv)
{
    uint32_t            series = argc > 1 ? (uint32_t)atoi(argv[1]) : 100000;
    const char         *folder = argc > 2 ? argv[2] : "bench-select.tmp";
    uint32_t            hosts = series / (METRICS * CPUS);
    struct kl_env_dir  *root;
    struct blk_info     info;
    struct blk_fileset *f;
    char                path[BLK_PATH_MAX + 1];
    double              from;
    uint64_t            n = 0;

    if (hosts == 0 || kl_env_dir_real_open(folder, true, &root, &err) != KL_OK)
        die(folder);
    info = write_all(root, hosts);
    blk_fileset_path(&info, path);
    from = now();
    if (blk_fileset_open_local(root, path, &f, &err) != KL_OK)
        die("open");
    printf("{\"bench\":\"select\",\"what\":\"open\",\"ms\":%.2f,\"memory_bytes_per_series\":%.2f}\n",
           (now() - from) * 1e3, (double)blk_fileset_memory(f) / (double)info.series_count);

    struct kl_matcher name = matcher(KL_MATCH_EQ, "__name__", "metric_017_seconds_total");
    struct kl_matcher host = matcher(KL_MATCH_EQ, "instance", "10.0.5.17:9100");
    struct kl_matcher job = matcher(KL_MATCH_RE, "job", "a.*");
    struct kl_matcher not_host = matcher(KL_MATCH_NE, "instance", "10.0.3.17:9100");
    struct kl_matcher tail = matcher(KL_MATCH_RE, "pod", ".*[0-4]$");
    struct kl_matcher one[] = { name, host }, two[] = { job, not_host }, three[] = { name, tail };

    run(f, "metric and instance", one, 2, true);
    run(f, "metric", &name, 1, true);
    run(f, "instance", &host, 1, true);
    run(f, "job=~a.*, instance!=x", two, 2, false);
    run(f, "job=~a.*, instance!=x", two, 2, true);
    run(f, "metric, pod=~.*[0-4]", three, 2, false);
    run(f, "all", NULL, 0, false);
    run(f, "all", NULL, 0, true);
    from = now();
    blk_fileset_values(f, kl_span_str("pod"), &job, 1, ignore, &n, &err);
    printf("{\"bench\":\"select\",\"what\":\"values of pod where job=~a.*\",\"values\":%llu,\"ms\":%.2f}\n",
           (unsigned long long)n, (now() - from) * 1e3);
    printf("{\"bench\":\"select\",\"what\":\"memory\",\"peak_mib\":%.0f}\n", peak_mib());
    blk_fileset_unref(f);
    if (blk_fileset_remove(root, path, &err) != KL_OK)
        die("remove");
    root->leave(root);
    return 0;
}
