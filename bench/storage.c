/*
 * What a fileset weighs and what its codecs cost, on recorded scrapes. Prints JSON lines.
 *
 *   storage RECORDING [FOLDER]      FOLDER (made, emptied afterwards) holds the fileset meanwhile
 *
 * The recording (zstd) is text: "T <job> <ms> <ms since the last> ..." for each job, then for each
 * series a line "S <job> <name{labels}>" and a line of its values, comma-separated, one for each
 * time of its job: empty is the value before, "_" no sample.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "libblock/blk_priv.h"
#include "libblock/fileset.h"

enum { JOBS_MAX = 8, SERIES_MAX = 100000, REPEATS = 20 };

struct series {
    struct kl_buf labels;
    struct kl_fp  fp;
    uint32_t      count;
    int64_t      *times;
    double       *values;
};
struct job { char name[32]; uint32_t count; int64_t *times; };

static struct job     jobs[JOBS_MAX];
static uint32_t       job_count, series_count;
static struct series *all;
static uint64_t       sample_count;
static struct kl_err  err;

static void die(const char *what)
{
    fprintf(stderr, "storage: %s: %s\n", what, err.text);
    exit(1);
}

static char *slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *packed, *text;
    long  n;
    unsigned long long whole;

    if (f == NULL)
        die(path);
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    rewind(f);
    packed = kl_resize(NULL, (size_t)n + 1);
    if (fread(packed, 1, (size_t)n, f) != (size_t)n)
        die(path);
    fclose(f);
    whole = ZSTD_getFrameContentSize(packed, (size_t)n);
    if (whole == ZSTD_CONTENTSIZE_ERROR || whole == ZSTD_CONTENTSIZE_UNKNOWN)
        die("not a zstd file");
    text = kl_resize(NULL, whole + 1);
    *size = ZSTD_decompress(text, whole, packed, (size_t)n);
    if (ZSTD_isError(*size))
        die("not a zstd file");
    text[*size] = '\0';
    free(packed);
    return text;
}

static void parse_times(char *line)
{
    struct job *j = &jobs[job_count++];
    int64_t     at = 0;
    char       *save, *word = strtok_r(line + 2, " ", &save);

    snprintf(j->name, sizeof j->name, "%s", word);
    while ((word = strtok_r(NULL, " ", &save)) != NULL) {
        j->times = kl_resize(j->times, (j->count + 1) * sizeof *j->times);
        j->times[j->count++] = at += strtoll(word, NULL, 10);
    }
}

/* name{a="b",c="d"} of the text format; escapes are undone in place. */
static void parse_labels(struct series *s, const struct job *j, char *text)
{
    static struct kl_labels_builder b;
    char                            instance[64], *at = strchr(text, '{');

    snprintf(instance, sizeof instance, "%.31s.example:9100", j->name);
    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"),
                  kl_span(text, at ? (size_t)(at - text) : strlen(text)), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str(j->name), &err);
    kl_labels_add(&b, kl_span_str("instance"), kl_span_str(instance), &err);
    while (at != NULL && *at != '}' && at[1] != '}') {
        char *name = at + 1, *equal = strchr(name, '='), *from = equal + 2, *to = from;

        for (at = from; *at != '"'; at++)
            *to++ = *at == '\\' ? (*++at == 'n' ? '\n' : *at) : *at;
        kl_labels_add(&b, kl_span(name, (size_t)(equal - name)), kl_span(from, (size_t)(to - from)), &err);
        at++;
    }
    if (kl_labels_finish(&b, &s->labels, &err) != KL_OK)
        die("labels");
    s->fp = kl_labels_fp((struct kl_labels){ (uint8_t *)s->labels.at, s->labels.size });
}

static struct kl_labels labels_of(const struct series *s)
{
    return (struct kl_labels){ (uint8_t *)s->labels.at, s->labels.size };
}

static double parse_value(const char *text)
{
    return strcmp(text, "NaN") == 0 ? kl_bits_f64(0x7ff8000000000001ull) : strtod(text, NULL);
}

static void parse_series(char *head, char *values)
{
    struct series *s = &all[series_count++];
    char          *name = strchr(head + 2, ' '), *word;
    struct job    *j = jobs;
    double         last = 0;

    *name++ = '\0';
    while (strcmp(j->name, head + 2) != 0)
        j++;
    parse_labels(s, j, name);
    s->times = kl_resize(NULL, j->count * sizeof *s->times);
    s->values = kl_resize(NULL, j->count * sizeof *s->values);
    for (uint32_t i = 0; i < j->count; i++) {
        word = strsep(&values, ",");
        if (word == NULL || strcmp(word, "_") == 0)
            continue;
        if (*word != '\0')
            last = parse_value(word);
        s->times[s->count] = j->times[i];
        s->values[s->count++] = last;
    }
    sample_count += s->count;
}

static int data_order(const void *a, const void *b)
{
    const struct series *x = a, *y = b;
    struct kl_labels     l = labels_of(x), m = labels_of(y);
    struct kl_span       name = kl_span_str("__name__");
    int                  c = kl_span_cmp(kl_labels_get(l, name), kl_labels_get(m, name));

    return c != 0 ? c : kl_labels_cmp(l, m);
}

static void load(const char *path)
{
    size_t size;
    char  *text = slurp(path, &size), *at = text, *line;

    all = kl_resize(NULL, SERIES_MAX * sizeof *all);
    memset(all, 0, SERIES_MAX * sizeof *all);
    while ((line = strsep(&at, "\n")) != NULL) {
        if (line[0] == 'T')
            parse_times(line);
        else if (line[0] == 'S')
            parse_series(line, strsep(&at, "\n"));
    }
    free(text);
    qsort(all, series_count, sizeof *all, data_order);
    printf("{\"bench\":\"storage\",\"what\":\"recording\",\"series\":%u,\"samples\":%llu}\n",
           series_count, (unsigned long long)sample_count);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Every series in chunks of `each`: one buffer, and where each chunk ends. */
struct chunks { struct kl_buf bytes; size_t *ends; uint32_t count; };

static void encode_all(uint32_t each, struct chunks *c)
{
    uint32_t n = 0;

    kl_buf_reset(&c->bytes);
    for (uint32_t i = 0; i < series_count; i++)
        for (uint32_t from = 0; from < all[i].count; from += each) {
            uint32_t count = all[i].count - from < each ? all[i].count - from : each;
            blk_chunk_encode(all[i].times + from, all[i].values + from, NULL, count, &c->bytes);
            c->ends[n++] = c->bytes.size;
        }
    c->count = n;
}

static struct kl_span chunk_at(const struct chunks *c, uint32_t i)
{
    size_t from = i > 0 ? c->ends[i - 1] : 0;
    return kl_span(c->bytes.at + from, c->ends[i] - from);
}

static void bench_codecs(uint32_t each)
{
    const struct blk_kernels *list[BLK_KERNELS_MAX];
    uint32_t                  kernels = blk_kernels_list(list), n;
    struct chunks             c = { .ends = kl_resize(NULL, sample_count * sizeof *c.ends) };
    static int64_t            times[BLK_CHUNK_MAX];
    static double             values[BLK_CHUNK_MAX];
    double                    best = 1e9, from;

    for (unsigned r = 0; r < REPEATS / 4; r++) {
        from = seconds();
        encode_all(each, &c);
        from = seconds() - from;
        best = from < best ? from : best;
    }
    printf("{\"bench\":\"storage\",\"what\":\"encode\",\"chunk\":%u,\"ns_per_sample\":%.2f,"
           "\"bytes_per_sample\":%.3f}\n", each, best * 1e9 / (double)sample_count,
           (double)c.bytes.size / (double)sample_count);
    for (uint32_t k = 0; k < kernels; k++) {
        best = 1e9;
        for (unsigned r = 0; r < REPEATS; r++) {
            from = seconds();
            for (uint32_t i = 0; i < c.count; i++)
                if (blk_chunk_decode_by(list[k], chunk_at(&c, i), times, values, NULL, &n, &err) != KL_OK)
                    die("decode");
            from = seconds() - from;
            best = from < best ? from : best;
        }
        printf("{\"bench\":\"storage\",\"what\":\"decode\",\"chunk\":%u,\"kernels\":\"%s\","
               "\"ns_per_sample\":%.2f}\n", each, list[k]->name, best * 1e9 / (double)sample_count);
    }
    kl_buf_deinit(&c.bytes);
    free(c.ends);
}

/* What was chosen, and what it takes: values only, times apart. */
struct use { const char *codec; uint64_t chunks, samples, bytes; };

static int by_bytes(const void *a, const void *b)
{
    const struct use *x = a, *y = b;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

static void bench_choice(uint32_t each)
{
    struct chunks c = { .ends = kl_resize(NULL, sample_count * sizeof *c.ends) };
    struct use    uses[64] = { 0 };
    uint64_t      time_bytes = 0;
    unsigned      n = 0;

    encode_all(each, &c);
    for (uint32_t i = 0; i < c.count; i++) {
        struct blk_parts p;
        const char      *codec = blk_chunk_codec(chunk_at(&c, i));
        unsigned         u = 0;

        if (blk_chunk_split(chunk_at(&c, i), &p, &err) != KL_OK)
            die("split");
        while (u < n && strcmp(uses[u].codec, codec) != 0)
            u++;
        n += u == n;
        uses[u].codec = codec;
        uses[u].chunks++;
        uses[u].samples += p.count;
        uses[u].bytes += p.rest.size;
        time_bytes += p.time.size;
    }
    qsort(uses, n, sizeof *uses, by_bytes);
    for (unsigned u = 0; u < n; u++)
        printf("{\"bench\":\"storage\",\"what\":\"codec\",\"name\":\"%s\",\"chunks\":%llu,"
               "\"samples\":%llu,\"bytes_per_sample\":%.3f,\"share_of_bytes\":%.3f}\n",
               uses[u].codec, (unsigned long long)uses[u].chunks, (unsigned long long)uses[u].samples,
               (double)uses[u].bytes / (double)uses[u].samples,
               (double)uses[u].bytes / (double)c.bytes.size);
    printf("{\"bench\":\"storage\",\"what\":\"times, not shared\",\"bytes_per_sample\":%.3f}\n",
           (double)time_bytes / (double)sample_count);
    kl_buf_deinit(&c.bytes);
    free(c.ends);
}

/* The series that weigh most: where to look for the next codec. */
struct weight { uint32_t series; size_t bytes; };
static int by_weight(const void *a, const void *b)
{
    const struct weight *x = a, *y = b;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

static void print_heaviest(uint32_t how_many)
{
    struct weight *w = kl_resize(NULL, series_count * sizeof *w);
    struct kl_buf  b = { 0 };

    for (uint32_t i = 0; i < series_count; i++) {
        kl_buf_reset(&b);
        for (uint32_t from = 0; from < all[i].count; from += 480)
            blk_value_encode(all[i].values + from,
                             all[i].count - from < 480 ? all[i].count - from : 480, &b);
        w[i] = (struct weight){ i, b.size };
    }
    qsort(w, series_count, sizeof *w, by_weight);
    for (uint32_t i = 0; i < how_many && i < series_count; i++) {
        struct kl_cur   c = kl_labels_cur(labels_of(&all[w[i].series]));
        struct kl_label x;

        fprintf(stderr, "%7zu ", w[i].bytes);
        while (kl_labels_next(&c, &x))
            fprintf(stderr, " %.*s", (int)x.value.size, (const char *)x.value.at);
        fprintf(stderr, "\n");
    }
    kl_buf_deinit(&b);
    free(w);
}

static struct blk_info write_fileset(struct kl_env_dir *root, int64_t window_ms)
{
    struct blk_info       info = { .tenant = "bench", .id = 1, .window_ms = window_ms }, done;
    struct blk_writer    *w;
    struct kl_buf         b = { 0 };
    struct blk_chunk_ref *refs = kl_resize(NULL, 100000 * sizeof *refs);
    size_t               *ends = kl_resize(NULL, 100000 * sizeof *ends);

    info.window_start_ms = jobs[0].times[0] / window_ms * window_ms;
    if (blk_writer_open(root, &info, &w, &err) != KL_OK)
        die("write");
    for (uint32_t i = 0; i < series_count; i++) {
        uint32_t n = 0;

        kl_buf_reset(&b);
        for (uint32_t from = 0; from < all[i].count; from += BLK_CHUNK_USUAL, n++) {
            uint32_t count = all[i].count - from < BLK_CHUNK_USUAL ? all[i].count - from : BLK_CHUNK_USUAL;
            blk_chunk_encode(all[i].times + from, all[i].values + from, NULL, count, &b);
            ends[n] = b.size;
            refs[n] = (struct blk_chunk_ref){ .count = count, .kind = BLK_FLOATS,
                                              .first_ms = all[i].times[from],
                                              .last_ms = all[i].times[from + count - 1] };
        }
        for (uint32_t k = 0; k < n; k++)
            refs[k].bytes = kl_span(b.at + (k ? ends[k - 1] : 0), ends[k] - (k ? ends[k - 1] : 0));
        if (n > 0 && blk_writer_series(w, labels_of(&all[i]), all[i].fp, refs, n, &err) != KL_OK)
            die("write");
    }
    if (blk_writer_finish(w, &done, &err) != KL_OK)
        die("write");
    kl_buf_deinit(&b);
    free(refs);
    free(ends);
    return done;
}

static void bench_fileset(const char *folder)
{
    static const char *const names[] = { "info", "data", "index", "summaries", "postings", "bloom",
                                         "extras", "digests", "checkpoint" };
    struct kl_env_dir   *root;
    struct blk_info      done;
    struct blk_fileset  *f;
    struct blk_select   *s;
    struct blk_selected  one;
    char                 path[BLK_PATH_MAX + 1], file[4096];
    double               from, write_s, select_s;
    long long            sum = 0, data = 0;
    uint32_t             n = 0;

    if (kl_env_dir_real_open(folder, true, &root, &err) != KL_OK)
        die(folder);
    from = seconds();
    done = write_fileset(root, 2 * 3600 * 1000);
    write_s = seconds() - from;
    blk_fileset_path(&done, path);
    printf("{\"bench\":\"storage\",\"what\":\"fileset\",\"series\":%u", series_count);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat st;

        snprintf(file, sizeof file, "%s/%s/%s", folder, path, names[i]);
        if (stat(file, &st) != 0)
            die(file);
        sum += st.st_size;
        data = i == 1 ? st.st_size : data;
        printf(",\"%s\":%lld", names[i], (long long)st.st_size);
    }
    printf(",\"bytes\":%lld,\"data_per_sample\":%.4f,\"bytes_per_sample\":%.4f}\n", sum,
           (double)data / (double)sample_count, (double)sum / (double)sample_count);
    from = seconds();
    if (blk_fileset_open_local(root, path, &f, &err) != KL_OK ||
        blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err) != KL_OK)
        die("open");
    while (blk_select_next(s, &one, &err) == KL_OK)
        n += one.chunk_count;
    blk_select_close(s);
    select_s = seconds() - from;
    if (blk_fileset_verify(f, &err) != KL_OK)
        die("verify");
    blk_fileset_unref(f);
    printf("{\"bench\":\"storage\",\"what\":\"fileset times\",\"write_ns_per_sample\":%.1f,"
           "\"open_and_select_all_ns_per_sample\":%.2f,\"chunks\":%u}\n",
           write_s * 1e9 / (double)sample_count, select_s * 1e9 / (double)sample_count, n);
    if (blk_fileset_remove(root, path, &err) != KL_OK)
        die("remove");
    root->leave(root);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: storage RECORDING [FOLDER]\n");
        return 2;
    }
    load(argv[1]);
    if (getenv("HEAVIEST") != NULL)
        print_heaviest((uint32_t)atoi(getenv("HEAVIEST")));
    bench_choice(480);
    bench_codecs(120);
    bench_codecs(240);
    bench_codecs(480);
    bench_fileset(argc > 2 ? argv[2] : "bench-storage.tmp");
    return 0;
}
