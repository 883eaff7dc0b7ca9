/*
 * A day's compaction: twelve filesets of two hours, 480 samples a series each, and one of late samples
 * over all of them, become one. Prints JSON lines: bytes a sample before and after, what merging
 * costs, and the longest that a slice keeps a worker.
 *
 *   compact SERIES FOLDER
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "libblock/compact.h"

enum { WINDOWS = 12, SAMPLES = 480, STEP_MS = 15000, WINDOW_MS = SAMPLES * STEP_MS, SLICE = 500000 };
static const int64_t day = (int64_t)20000 * WINDOWS * WINDOW_MS;
static struct kl_err err;

static void die(const char *what)
{
    fprintf(stderr, "compact: %s: %s\n", what, err.text);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void labels_of(uint32_t n, struct kl_buf *out)
{
    static struct kl_labels_builder b;
    char name[40], instance[40];

    snprintf(name, sizeof name, "metric_%06u_total", n / 1000);
    snprintf(instance, sizeof instance, "host-%03u:9100", n % 1000);
    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(name), &err);
    kl_labels_add(&b, kl_span_str("instance"), kl_span_str(instance), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str("node"), &err);
    kl_buf_reset(out);
    if (kl_labels_finish(&b, out, &err) != KL_OK)
        die("labels");
}

/* A third each: constant, counter, gauge of two decimals. */
static double value(uint32_t n, uint32_t i)
{
    uint64_t z = ((uint64_t)n << 32 | i) * 0x9e3779b97f4a7c15ull;

    z ^= z >> 29;
    return n % 3 == 0 ? n : n % 3 == 1 ? (double)i * 15 + (double)(z % 8) : (double)(z % 2000) / 100;
}

/* Window w; or with WINDOWS the late ones: each 97th sample of every tenth series. */
static void write_one(struct kl_env_dir *root, uint32_t w, uint32_t series, struct blk_info *done)
{
    bool               late = w == WINDOWS;
    struct blk_info    info = { .tenant = "bench", .id = 100 + w, .incarnation = 1, .first_seq = 1,
                                .window_ms = late ? 0 : WINDOW_MS,
                                .window_start_ms = day + (int64_t)(late ? 0 : w) * WINDOW_MS };
    struct blk_writer *to;
    struct kl_buf      labels = { 0 }, chunk = { 0 };
    int64_t            times[SAMPLES];
    double             values[SAMPLES];

    if (blk_writer_open(root, &info, &to, &err) != KL_OK)
        die("begin");
    for (uint32_t n = 0; n < series; n += late ? 10 : 1) {
        uint32_t count = 0;

        for (uint32_t i = 0; late ? i < WINDOWS * SAMPLES : i < SAMPLES; i += late ? 97 : 1, count++) {
            uint32_t at = late ? i : w * SAMPLES + i;
            times[count] = day + (int64_t)at * STEP_MS + n % 1000;
            values[count] = value(n, at) + (late ? 1 : 0);
        }
        labels_of(n, &labels);
        kl_buf_reset(&chunk);
        blk_chunk_encode(times, values, NULL, count, &chunk);
        struct kl_labels     l = { (uint8_t *)labels.at, labels.size };
        struct blk_chunk_ref ref = { kl_buf_span(&chunk), times[0], times[count - 1], count, BLK_FLOATS };
        if (blk_writer_series(to, l, kl_labels_fp(l), &ref, 1, &err) != KL_OK)
            die("series");
    }
    if (blk_writer_finish(to, done, &err) != KL_OK)
        die("finish");
    kl_buf_deinit(&labels);
    kl_buf_deinit(&chunk);
}

static uint64_t bytes_of(struct blk_fileset *f)
{
    struct blk_file_size files[BLK_FILE_COUNT];
    uint64_t             all = 0;

    blk_fileset_files(f, files);
    for (unsigned i = 0; i < BLK_FILE_COUNT; i++)
        all += files[i].bytes;
    return all;
}

static void forget(struct kl_env_dir *root, const struct blk_info *info)
{
    char path[BLK_PATH_MAX + 1];

    blk_fileset_path(info, path);
    blk_fileset_remove(root, path, &err);
}

int main(int argc, char **argv)
{
    uint32_t            series = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 5000;
    struct blk_fileset *inputs[WINDOWS + 1], *f;
    struct blk_info     infos[WINDOWS + 1], whole, done;
    struct blk_compact  c = { .inputs = inputs, .from_ms = day, .to_ms = day + WINDOWS * (int64_t)WINDOW_MS };
    struct blk_compaction *x;
    struct kl_env_dir  *root;
    struct rusage       usage;
    uint64_t            samples = 0, bytes = 0;
    double              begin, longest = 0, finish;
    enum kl_code        code;

    if (argc < 3 || series == 0 || kl_env_dir_real_open(argv[2], true, &root, &err) != KL_OK)
        die("usage: compact SERIES FOLDER");
    for (uint32_t w = 0; w <= WINDOWS; w++) {
        char path[BLK_PATH_MAX + 1];

        write_one(root, w, series, &infos[w]);
        blk_fileset_path(&infos[w], path);
        if (blk_fileset_open_local(root, path, &inputs[w], &err) != KL_OK)
            die("open");
        samples += infos[w].sample_count;
        bytes += bytes_of(inputs[w]);
    }
    printf("{\"bench\":\"compact\",\"what\":\"inputs\",\"filesets\":%d,\"series\":%u,\"samples\":%llu,"
           "\"bytes_per_sample\":%.4f}\n", WINDOWS + 1, series, (unsigned long long)samples,
           (double)bytes / (double)samples);
    whole = (struct blk_info){ .tenant = "bench", .id = 100 + WINDOWS, .incarnation = 1, .first_seq = 1,
                               .generation = 7, .window_ms = WINDOWS * (int64_t)WINDOW_MS,
                               .window_start_ms = day };
    for (unsigned late = 0; late < 2; late++) {        /* chunks joined as they are; then merged */
        c.count = WINDOWS + late;
        c.root = root;
        c.info = &whole;
        samples = 0;
        for (uint32_t i = 0; i < c.count; i++)
            samples += infos[i].sample_count;
        begin = now();
        if (blk_compaction_begin(&c, &x, &err) != KL_OK)
            die("begin");
        do {
            double from = now();

            code = blk_compaction_step(x, SLICE, &err);
            longest = now() - from > longest ? now() - from : longest;
        } while (code == KL_OK);
        if (code != KL_ENOENT)
            die("step");
        finish = now();
        if (blk_compaction_finish(x, &done, &err) != KL_OK)
            die("finish");
        getrusage(RUSAGE_SELF, &usage);
        {
            char path[BLK_PATH_MAX + 1];

            blk_fileset_path(&done, path);
            if (blk_fileset_open_local(root, path, &f, &err) != KL_OK)
                die("open the result");
        }
        printf("{\"bench\":\"compact\",\"what\":\"%s\",\"samples\":%llu,\"bytes_per_sample\":%.4f,"
               "\"ns_per_sample\":%.1f,\"longest_slice_ms\":%.0f,\"finish_ms\":%.0f,\"peak_mib\":%.0f}\n",
               late ? "a day with late samples" : "a day", (unsigned long long)done.sample_count,
               (double)bytes_of(f) / (double)done.sample_count, (now() - begin) * 1e9 / (double)samples,
               longest * 1e3, (now() - finish) * 1e3, (double)usage.ru_maxrss / 1024);
        blk_fileset_unref(f);
        forget(root, &done);
    }
    for (uint32_t w = 0; w <= WINDOWS; w++) {
        blk_fileset_unref(inputs[w]);
        forget(root, &infos[w]);
    }
    root->leave(root);
    return 0;
}
