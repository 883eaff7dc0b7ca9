/*
 * `koalemos inspect DIR`: what the filesets below DIR hold and what they cost: series, samples, bytes
 * by file and per sample, the codecs that were chosen. As text, or with --json as one object.
 */
#include "koalemos/tool.h"

#include "libkoal/base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos inspect DIR [--json] [--progress] [--encryption.keys.file FILE]\n"
    "\n"
    "  Lists the filesets below DIR: the data folder of a process, or a folder that is an object store.\n"
    "  Reads all of their data. Exit status: 0; 1 when one of them cannot be read; 2 wrong usage.\n"
    "  --json        one JSON object in place of a table\n"
    "  --progress    says on stderr how far it is (always, where that is a terminal)\n"
    "  --encryption.keys.file FILE, --encryption.keys.command COMMAND    the keys, where DIR is encrypted\n";

struct inspect {
    struct tool       t;
    struct blk_census all;
    uint64_t files[BLK_FILE_COUNT], bytes, failed;
    const char *names[BLK_FILE_COUNT];
    struct kl_buf out;
    bool     first;
};

static double per(uint64_t bytes, uint64_t samples)
{
    return samples == 0 ? 0 : (double)bytes / (double)samples;
}

static void text_fileset(struct inspect *s, const struct blk_found *x, const struct blk_info *i,
                         uint64_t bytes)
{
    const char *what = i->resolution_ms > 0 ? "row" : "sample";
    char        rollup[48] = "";

    if (i->resolution_ms > 0)
        snprintf(rollup, sizeof rollup, "rollup of %" PRId64 " s, ", i->resolution_ms / 1000);
    kl_buf_addf(&s->out, "%s%s%s\n    %s, %s%" PRIu64 " series, %" PRIu64 " %ss from %" PRId64
                " to %" PRId64 ", %" PRIu64 " bytes, %.3f a %s\n", x->root,
                x->root[0] != '\0' ? "/" : "", x->path,
                x->kind == BLK_FOUND_STORED ? "stored" : "local", rollup, i->series_count, i->sample_count,
                what, i->min_ms, i->max_ms, bytes, per(bytes, i->sample_count), what);
}

static void json_files(struct inspect *s, const uint64_t files[BLK_FILE_COUNT])
{
    kl_buf_adds(&s->out, "{");
    for (unsigned i = 0; i < BLK_FILE_COUNT; i++)
        kl_buf_addf(&s->out, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", s->names[i], files[i]);
    kl_buf_adds(&s->out, "}");
}

static void json_fileset(struct inspect *s, const struct blk_found *x, const struct blk_info *i,
                         const uint64_t files[BLK_FILE_COUNT], uint64_t bytes)
{
    kl_buf_adds(&s->out, s->first ? "\n" : ",\n");
    kl_buf_adds(&s->out, "{\"root\":");
    kl_json_cstr(&s->out, x->root);
    kl_buf_adds(&s->out, ",\"path\":");
    kl_json_cstr(&s->out, x->path);
    kl_buf_addf(&s->out, ",\"stored\":%s,\"tenant\":", x->kind == BLK_FOUND_STORED ? "true" : "false");
    kl_json_cstr(&s->out, i->tenant);
    kl_buf_addf(&s->out, ",\"partition\":%" PRIu32 ",\"window_start_ms\":%" PRId64 ",\"window_ms\":%"
                PRId64 ",\"id\":%" PRIu64 ",\"generation\":%" PRIu64 ",\"resolution_ms\":%" PRId64 ",\"first_seq\":%" PRIu64 ",\"min_ms\":%" PRId64
                ",\"max_ms\":%" PRId64 ",\"series\":%" PRIu64 ",\"samples\":%" PRIu64
                ",\"bytes\":%" PRIu64 ",\"bytes_per_sample\":%.4f,\"files\":", i->partition,
                i->window_start_ms, i->window_ms, i->id, i->generation, i->resolution_ms, i->first_seq, i->min_ms, i->max_ms,
                i->series_count, i->sample_count, bytes, per(bytes, i->sample_count));
    json_files(s, files);
    kl_buf_adds(&s->out, "}");
}

static void one(struct inspect *s, const struct blk_found *x)
{
    struct blk_found_open o = { 0 };
    struct blk_file_size  files[BLK_FILE_COUNT];
    struct kl_err         err = { 0 };
    uint64_t              sizes[BLK_FILE_COUNT], bytes = 0;
    enum kl_code          code = blk_found_open(s->t.top, x, &o, &err);

    if (code == KL_OK) {
        code = blk_fileset_census(o.f, &s->all, &err);
        blk_fileset_files(o.f, files);
        for (unsigned i = 0; i < BLK_FILE_COUNT; i++) {
            s->names[i] = files[i].name;
            sizes[i] = files[i].bytes;
            s->files[i] += files[i].bytes;
            bytes += files[i].bytes;
        }
        s->bytes += bytes;
        if (s->t.json)
            json_fileset(s, x, blk_fileset_info(o.f), sizes, bytes);
        else
            text_fileset(s, x, blk_fileset_info(o.f), bytes);
        s->first = false;
        blk_found_close(&o);
    }
    if (code != KL_OK && code != KL_ENOENT) {
        s->failed++;
        fprintf(stderr, "koalemos inspect: %s%s%s: %s\n", x->root, x->root[0] != '\0' ? "/" : "",
                x->path, err.text);
    }
}

static int by_samples(const void *a, const void *b)
{
    const struct blk_codec_count *x = a, *y = b;

    if (x->samples != y->samples)
        return x->samples > y->samples ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void text_totals(struct inspect *s)
{
    const struct blk_census *c = &s->all;

    kl_buf_addf(&s->out, "\n%" PRIu64 " filesets, %" PRIu64 " series, %" PRIu64 " samples, %" PRIu64
                " bytes, %.3f a sample\n", c->filesets, c->series, c->samples, s->bytes,
                per(s->bytes, c->samples));
    if (c->filesets == 0)
        return;
    kl_buf_addf(&s->out, "\n%-24s %14s %8s\n", "file", "bytes", "a sample");
    for (unsigned i = 0; i < BLK_FILE_COUNT; i++)
        kl_buf_addf(&s->out, "%-24s %14" PRIu64 " %8.4f\n", s->names[i], s->files[i],
                    per(s->files[i], c->samples));
    kl_buf_addf(&s->out, "\n%-24s %14s %14s %14s %8s    before zstd\n", "codec", "chunks", "samples",
                "bytes", "a sample");
    kl_buf_addf(&s->out, "%-24s %14" PRIu64 " %14s %14" PRIu64 " %8.4f\n", "times", c->time_columns,
                "", c->time_bytes, per(c->time_bytes, c->samples));
    for (uint32_t i = 0; i < c->codec_count; i++)
        kl_buf_addf(&s->out, "%-24s %14" PRIu64 " %14" PRIu64 " %14" PRIu64 " %8.4f\n",
                    c->codecs[i].name, c->codecs[i].chunks, c->codecs[i].samples,
                    c->codecs[i].bytes, per(c->codecs[i].bytes, c->codecs[i].samples));
}

static void json_totals(struct inspect *s)
{
    const struct blk_census *c = &s->all;

    kl_buf_addf(&s->out, "],\n\"total\":{\"filesets\":%" PRIu64 ",\"series\":%" PRIu64
                ",\"samples\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"bytes_per_sample\":%.4f",
                c->filesets, c->series, c->samples, s->bytes, per(s->bytes, c->samples));
    if (c->filesets > 0) {
        kl_buf_adds(&s->out, ",\"files\":");
        json_files(s, s->files);
    }
    kl_buf_addf(&s->out, ",\"times\":{\"columns\":%" PRIu64 ",\"bytes\":%" PRIu64 "},\"codecs\":[",
                c->time_columns, c->time_bytes);
    for (uint32_t i = 0; i < c->codec_count; i++)
        kl_buf_addf(&s->out, "%s\n{\"codec\":\"%s\",\"chunks\":%" PRIu64 ",\"samples\":%" PRIu64
                    ",\"bytes\":%" PRIu64 "}", i > 0 ? "," : "", c->codecs[i].name,
                    c->codecs[i].chunks, c->codecs[i].samples, c->codecs[i].bytes);
    kl_buf_addf(&s->out, "]},\"failed\":%" PRIu64 "}\n", s->failed);
}

static void put(struct inspect *s)
{
    fwrite(s->out.at, 1, s->out.size, stdout);
    kl_buf_reset(&s->out);
}

int koalemos_inspect(int argc, char **argv, int first)
{
    struct inspect s = { .first = true };
    int            status;

    if (!tool_open(&s.t, "koalemos inspect", usage, argc, argv, first, true, &status))
        return status;
    if (s.t.json)
        kl_buf_adds(&s.out, "{\"filesets\":[");
    for (size_t i = 0; i < s.t.finds.count; i++) {
        const struct blk_found *x = &s.t.finds.at[i];

        if (x->kind == BLK_FOUND_LOCAL || x->kind == BLK_FOUND_STORED)
            one(&s, x);
        put(&s);
        tool_progress(&s.t, i + 1, x->bytes);
    }
    if (s.all.codec_count > 0)
        qsort(s.all.codecs, s.all.codec_count, sizeof *s.all.codecs, by_samples);
    if (s.t.json)
        json_totals(&s);
    else
        text_totals(&s);
    put(&s);
    kl_buf_deinit(&s.out);
    tool_close(&s.t);
    return s.failed > 0 ? 1 : 0;
}
