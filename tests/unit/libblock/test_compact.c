/*
 * libblock/compact: what comes out holds, of every series and time, the latest input's sample, and
 * nothing that is hidden; whatever fails, there is no half of it.
 */
#include "tests/unit/libblock/fileset_kit.h"

#include "libblock/compact.h"
#include "libblock/fileset_priv.h"
#include "tests/suite.h"

enum { SERIES = 120, INPUTS = 4, TIMES = 3000 };
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;
static struct blk_fileset     *inputs[INPUTS];
static struct blk_info         whole;

/* What should come out: by series and slot of time, the value of the latest input. */
static struct kit_series model_series[SERIES];
static bool   model_has[SERIES][TIMES];
static double model_value[SERIES][TIMES];

static double value_of(unsigned input, uint32_t series, uint32_t slot)
{
    return (double)(input * 1000000 + series * 3000 + slot);
}

/* Input i covers slots [from, to) of every `nth` series, each `stride`th slot. */
static void write_input(unsigned i, uint32_t from, uint32_t to, uint32_t nth, uint32_t stride)
{
    struct blk_info info = { .tenant = "t", .partition = 2, .window_start_ms = start + i, .window_ms = 0,
                             .id = 100 + i, .incarnation = 1, .first_seq = 1 };
    char            path[BLK_PATH_MAX + 1];

    kit_make(1, SERIES, 1, start, 1);                  /* for the labels */
    memcpy(model_series, kit, sizeof model_series);
    for (uint32_t s = 0; s < SERIES; s++) {
        free(kit[s].times);
        free(kit[s].values);
        kit[s].times = NULL;
        kit[s].values = NULL;
    }
    kit_count = 0;
    for (uint32_t s = 0; s < SERIES; s++) {
        struct kit_series *k = &kit[kit_count];

        if (s % nth != 0)
            continue;
        *k = model_series[s];
        k->times = malloc(TIMES * 8);
        k->values = malloc(TIMES * 8);
        k->count = 0;
        for (uint32_t t = from; t < to; t += stride) {
            k->times[k->count] = start + (int64_t)t * 1000;
            k->values[k->count++] = value_of(i, s, t);
            model_has[s][t] = true;
            model_value[s][t] = value_of(i, s, t);
        }
        kit_count++;
    }
    blk_fileset_path(&info, path);
    ck_assert_msg(kit_write(root, &info, 200, NULL, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(blk_fileset_open_local(root, path, &inputs[i], &err) == KL_OK, "%s", err.text);
    for (uint32_t s = 0; s < kit_count; s++) {
        free(kit[s].times);
        free(kit[s].values);
        kit[s].times = NULL;
        kit[s].values = NULL;
    }
}

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    memset(model_has, 0, sizeof model_has);
    write_input(0, 0, 1000, 1, 1);
    write_input(1, 1000, 2000, 2, 1);                  /* follows the first */
    write_input(2, 500, 1500, 3, 7);                   /* late, over both */
    write_input(3, 2500, 2600, 5, 1);
    whole = (struct blk_info){ .tenant = "t", .partition = 2, .window_start_ms = start,
                               .window_ms = 7200000, .id = 999, .incarnation = 1, .first_seq = 1 };
}

static void teardown(void)
{
    for (unsigned i = 0; i < INPUTS; i++)
        blk_fileset_unref(inputs[i]);
    root->leave(root);
    kl_env_disk_sim_free(disk);
}

static void check_against_model(struct blk_fileset *f)
{
    static int64_t      times[BLK_CHUNK_MAX];
    static double       values[BLK_CHUNK_MAX];
    static struct kl_hist hists[BLK_CHUNK_MAX];
    struct kl_arena     arena;
    struct blk_select  *s;
    struct blk_selected one;
    uint32_t            seen = 0, expected = 0, n;

    kl_arena_init(&arena, 64 << 20);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    for (uint32_t i = 0; i < SERIES; i++) {
        bool any = false;
        for (uint32_t t = 0; t < TIMES; t++)
            any |= model_has[i][t];
        expected += any;
    }
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    for (; blk_select_next(s, &one, &err) == KL_OK; seen++) {
        uint32_t i = 0, t = 0;

        while (kl_fp_cmp(model_series[i].fp, one.fp) != 0)
            ck_assert_uint_lt(++i, SERIES);
        for (uint32_t c = 0; c < one.chunk_count; c++) {
            if (one.chunks[c].kind == BLK_HISTS)
                ck_assert_int_eq(blk_chunk_decode_hists(one.chunks[c].bytes, &arena, times, hists,
                                                        NULL, &n, &err), KL_OK);
            else
                ck_assert_int_eq(blk_chunk_decode(one.chunks[c].bytes, times, values, NULL, &n, &err), KL_OK);
            for (uint32_t k = 0; k < n; k++, t++) {
                for (; t < TIMES && !model_has[i][t]; t++)
                    ;
                ck_assert_uint_lt(t, TIMES);
                ck_assert_int_eq(times[k], start + (int64_t)t * 1000);
                ck_assert(model_value[i][t] == (one.chunks[c].kind == BLK_HISTS ? hists[k].sum : values[k]));
            }
        }
        for (; t < TIMES; t++)
            ck_assert(!model_has[i][t]);
    }
    ck_assert_uint_eq(seen, expected);
    blk_select_close(s);
    kl_arena_deinit(&arena);
}

static void compact_and_check(struct blk_compact *c)
{
    struct blk_fileset *f;
    struct blk_info     done;
    char                path[BLK_PATH_MAX + 1];

    ck_assert_msg(blk_compact(c, &done, &err) == KL_OK, "%s", err.text);
    blk_fileset_path(&whole, path);
    ck_assert_int_eq(blk_fileset_open_local(root, path, &f, &err), KL_OK);
    ck_assert_uint_eq(blk_fileset_info(f)->sample_count, done.sample_count);
    check_against_model(f);
    blk_fileset_unref(f);
}

START_TEST(latest_input_wins)
{
    struct blk_compact c = { inputs, INPUTS, root, &whole, NULL, NULL, NULL };
    compact_and_check(&c);
}
END_TEST

/* Of every second series, the slots 100..200 were deleted after the second input; of the first
 * series everything was. */
static uint32_t hide(void *ctx, const struct blk_info *input, struct kl_labels labels,
                     struct blk_hidden *ranges)
{
    uint32_t i = 0;

    (void)ctx;
    while (kl_fp_cmp(model_series[i].fp, kl_labels_fp(labels)) != 0)
        i++;
    if (i == 0) {
        ranges[0] = (struct blk_hidden){ INT64_MIN, INT64_MAX };
        return 1;
    }
    if (i % 2 || input->id > 101)
        return 0;
    ranges[0] = (struct blk_hidden){ start + 100 * 1000, start + 150 * 1000 };
    ranges[1] = (struct blk_hidden){ start + 151 * 1000, start + 200 * 1000 };
    return 2;
}

START_TEST(what_is_hidden_is_left_out)
{
    struct blk_compact c = { inputs, INPUTS, root, &whole, hide, NULL, NULL };

    memset(model_has[0], 0, sizeof model_has[0]);
    for (uint32_t i = 0; i < SERIES; i += 2)
        for (uint32_t t = 100; t <= 200; t++)          /* none of the later inputs is there */
            model_has[i][t] = false;
    compact_and_check(&c);
}
END_TEST

static void on_whole(void *ctx, const char *path) { (void)path; ++*(unsigned *)ctx; }
static void on_unfinished(void *ctx, const char *path) { (void)ctx; (void)path; }

static unsigned whole_filesets(void)
{
    unsigned n = 0;
    ck_assert_int_eq(blk_fileset_scan(root, on_whole, on_unfinished, &n, &err), KL_OK);
    return n;
}

/* A day's end in the middle of an input: what is before it is one result, the rest another. */
START_TEST(a_range_takes_the_samples_within_and_two_ranges_take_all)
{
    static bool        had[SERIES][TIMES];
    const uint32_t     cut = 1200;
    struct blk_compact c = { inputs, INPUTS, root, &whole, NULL, NULL, NULL };

    memcpy(had, model_has, sizeof had);
    for (unsigned half = 0; half < 2; half++) {
        c.from_ms = half == 0 ? start : start + (int64_t)cut * 1000;
        c.to_ms = half == 0 ? start + (int64_t)cut * 1000 - 1 : INT64_MAX;
        whole.generation = 5 + half;
        for (uint32_t i = 0; i < SERIES; i++)
            for (uint32_t t = 0; t < TIMES; t++)
                model_has[i][t] = had[i][t] && (t < cut) == (half == 0);
        compact_and_check(&c);
    }
}
END_TEST

START_TEST(slices_of_any_size_give_the_same_bytes)
{
    struct blk_compact     c = { inputs, INPUTS, root, &whole, NULL, NULL, NULL };
    struct blk_compaction *x;
    struct blk_info        at_once, sliced;
    char                   path[BLK_PATH_MAX + 1];
    unsigned               slices = 0;
    enum kl_code           code;

    whole.generation = 9;
    ck_assert_int_eq(blk_compact(&c, &at_once, &err), KL_OK);
    blk_fileset_path(&whole, path);
    ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
    ck_assert_int_eq(blk_compaction_begin(&c, &x, &err), KL_OK);
    for (; (code = blk_compaction_step(x, 1, &err)) == KL_OK; slices++)
        ;
    ck_assert_int_eq(code, KL_ENOENT);
    ck_assert_uint_ge(slices, SERIES - 1);
    ck_assert_msg(blk_compaction_finish(x, &sliced, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(sliced.content, at_once.content);
    ck_assert_uint_eq(sliced.chunk_bytes, at_once.chunk_bytes);
    ck_assert_uint_eq(sliced.generation, 9);
    ck_assert_int_eq(blk_compaction_begin(&c, &x, &err), KL_EEXIST);
}
END_TEST

START_TEST(an_abandoned_compaction_leaves_nothing)
{
    struct blk_compact     c = { inputs, INPUTS, root, &whole, NULL, NULL, NULL };
    struct blk_compaction *x;

    ck_assert_int_eq(blk_compaction_begin(&c, &x, &err), KL_OK);
    ck_assert_int_eq(blk_compaction_step(x, 1000, &err), KL_OK);
    blk_compaction_abandon(x);
    ck_assert_uint_eq(whole_filesets(), INPUTS);
    ck_assert_int_eq(blk_compact(&c, NULL, &err), KL_OK);
}
END_TEST

START_TEST(one_input_gives_the_same_content)
{
    struct blk_compact c = { inputs, 1, root, &whole, NULL, NULL, NULL };
    struct blk_info    done;

    ck_assert_int_eq(blk_compact(&c, &done, &err), KL_OK);
    ck_assert_uint_eq(done.content, blk_fileset_info(inputs[0])->content);
    ck_assert_uint_eq(done.sample_count, blk_fileset_info(inputs[0])->sample_count);
}
END_TEST

static bool stop(void *ctx, uint64_t done, uint64_t at_most)
{
    (void)ctx;
    ck_assert_uint_le(done, at_most);
    return false;
}

START_TEST(failed_compaction_leaves_the_inputs_and_nothing_else)
{
    struct blk_compact c = { inputs, INPUTS, root, &whole, NULL, NULL, NULL };
    uint64_t           before = kl_env_disk_sim_calls(disk), calls, failures = 0;
    enum kl_code       code;
    char               path[BLK_PATH_MAX + 1];

    ck_assert_int_eq(blk_compact(&c, NULL, &err), KL_OK);
    calls = kl_env_disk_sim_calls(disk) - before;
    blk_fileset_path(&whole, path);
    ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
    for (uint64_t nth = 1; nth <= calls; nth++) {
        c.root = kl_env_disk_sim_root(disk);           /* anew: one that failed to sync is dead */
        kl_env_disk_sim_fail(disk, nth, nth % 2 ? KL_EIO : KL_ELIMIT);
        code = blk_compact(&c, NULL, &err);
        kl_env_disk_sim_fail(disk, 0, KL_OK);
        if (code == KL_OK)
            ck_assert_int_eq(blk_fileset_remove(root, path, &err), KL_OK);
        failures += code != KL_OK;
        ck_assert_uint_eq(whole_filesets(), INPUTS);
        c.root->leave(c.root);
    }
    ck_assert_uint_gt(failures, calls * 9 / 10);
}
END_TEST

START_TEST(stopping_is_not_a_result)
{
    struct blk_compact c = { inputs, INPUTS, root, &whole, NULL, stop, NULL };
    enum kl_code       code;

    c.count = INPUTS;
    code = blk_compact(&c, NULL, &err);                /* few series: it may not have been asked */
    ck_assert(code == KL_ECANCELED || code == KL_OK);
    ck_assert_uint_eq(whole_filesets(), INPUTS + (code == KL_OK));
}
END_TEST

/* ---- an input whose page of series is not what a writer makes, though every checksum is right ---- */

struct forged { struct blk_source source, *real; struct kl_buf frame; };

static enum kl_code forged_read(struct blk_source *s, enum blk_file file, uint64_t offset, void *bytes, size_t size,
                                struct blk_bytes *tally, struct kl_err *e)
{
    struct forged *x = (struct forged *)s;

    if (file != BLK_INDEX)
        return x->real->read(x->real, file, offset, bytes, size, tally, e);
    ck_assert(offset == 0 && size == x->frame.size);
    memcpy(bytes, x->frame.at, size);
    return KL_OK;
}

/* Compacts the first input with its one page of series replaced; the answer must be KL_ECORRUPT. */
static void refuse_page(const struct kl_buf *page)
{
    struct blk_compact c = { inputs, 1, root, &whole, NULL, NULL, NULL };
    struct blk_place  *place = &inputs[0]->summaries.pages.at[0];
    struct blk_zip    *zip = blk_zip_new();
    struct forged      x = { .real = inputs[0]->source };

    ck_assert_uint_eq(place->count, SERIES);
    ck_assert_int_eq(blk_frame_write(zip, inputs[0]->seed, kl_buf_span(page), &x.frame, &place->check, &err), KL_OK);
    blk_zip_free(zip);
    place->size = (uint32_t)x.frame.size;
    x.source.read = forged_read;
    inputs[0]->source = &x.source;
    ck_assert_int_eq(blk_compact(&c, NULL, &err), KL_ECORRUPT);
    ck_assert_uint_eq(whole_filesets(), INPUTS);
    inputs[0]->source = x.real;
    kl_buf_deinit(&x.frame);
}

enum { LABEL = 3, VALUES = 18 };                       /* "instance": the fourth name; it has as many values */

START_TEST(a_page_that_says_a_label_twice_is_corrupt)
{
    struct kl_buf page = { 0 };

    for (uint32_t i = 0; i < SERIES; i++) {
        const uint64_t row[] = { 0, 2, LABEL, i / VALUES, LABEL, i % VALUES };

        for (size_t k = 0; k < sizeof row / sizeof *row; k++)
            kl_buf_addv(&page, row[k]);
    }
    refuse_page(&page);
    kl_buf_deinit(&page);
}
END_TEST

START_TEST(a_page_whose_series_do_not_rise_is_corrupt)
{
    struct kl_buf page = { 0 };

    for (uint32_t i = 0; i < SERIES; i++) {
        const uint64_t row[] = { 0, 1, LABEL, i < VALUES ? i : 0 };

        for (size_t k = 0; k < sizeof row / sizeof *row; k++)
            kl_buf_addv(&page, row[k]);
    }
    refuse_page(&page);
    kl_buf_deinit(&page);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/compact");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, latest_input_wins);
    tcase_add_test(t, what_is_hidden_is_left_out);
    tcase_add_test(t, a_range_takes_the_samples_within_and_two_ranges_take_all);
    tcase_add_test(t, slices_of_any_size_give_the_same_bytes);
    tcase_add_test(t, an_abandoned_compaction_leaves_nothing);
    tcase_add_test(t, one_input_gives_the_same_content);
    tcase_add_test(t, failed_compaction_leaves_the_inputs_and_nothing_else);
    tcase_add_test(t, stopping_is_not_a_result);
    tcase_add_test(t, a_page_that_says_a_label_twice_is_corrupt);
    tcase_add_test(t, a_page_whose_series_do_not_rise_is_corrupt);
    suite_add_tcase(s, t);
    return run_suite(s);
}
