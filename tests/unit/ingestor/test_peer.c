/* What an owner answers who asks for its snapshot, byte for byte. */
#include "snap_world.h"

#include "tests/suite.h"

#include "ingestor/peer.h"

static void setup(void)
{
    w_init(&w, 31, 1);
    w.window_ms = 7200000;
    w.snapshot_ms = 2000;
    w.spill_least_bytes = 1;
    w_start(&w);
    w_ready(&w);
}

/* A file of the partition's snapshot as the owner serves it, piece by piece. */
static enum kl_code ask(struct ing_peer_question what, struct kl_buf *out, uint64_t *snapshot, struct kl_err *err)
{
    struct ing_peer_answer got = { .size = 1 };

    for (; out->size < got.size; what.offset = out->size) {
        struct w_ask a = { 0 };
        uint8_t      bytes[ING_PEER_QUESTION];

        ing_peer_question_put(&what, bytes);
        a.op = (struct kl_bus_ask){ .question = kl_span(bytes, sizeof bytes), .timeout_ms = 10000, .loop = w.loop,
                                    .done = w_ask_done, .subject = "snapshot.0000" };
        w.bus->ask(w.bus, &a.op);
        ck_assert(w_until(&w, &a.done));
        *err = a.op.err;
        if (a.op.code != KL_OK)
            return a.op.code;
        ck_assert_msg(ing_peer_answer_get(kl_span(a.op.answer, a.op.answer_size), &what, &got, err) == KL_OK, "%s",
                      err->text);
        kl_buf_add(out, got.piece.at, got.piece.size);
        what.snapshot = *snapshot = got.snapshot;
        free(a.op.answer);
    }
    return KL_OK;
}

struct compared { struct kl_env_dir *dir; uint64_t snapshot; unsigned chunks, empty; };

static void compare(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct compared         *c = ctx;
    struct ing_peer_question what = { .snapshot = c->snapshot };
    struct kl_buf            served = { 0 };
    struct kl_err            err = { 0 };
    void                    *bytes;
    size_t                   size;

    (void)is_dir;
    if (sscanf(name, "chunks-%16" SCNx64, &what.file) == 1) {
        c->chunks++;
        c->empty += size_bytes == 0;
    }
    ck_assert_msg(ask(what, &served, &c->snapshot, &err) == KL_OK, "%s: %s", name, err.text);
    ck_assert_int_eq(c->dir->read(c->dir, name, 64 << 20, &bytes, &size, &err), KL_OK);
    ck_assert(kl_span_eq(kl_buf_span(&served), kl_span(bytes, size)));
    free(bytes);
    kl_buf_deinit(&served);
}

static struct compared compare_all(void)
{
    struct compared    c = { 0 };
    struct kl_env_dir *all;
    struct kl_err      err;

    ck_assert_int_eq(w.data_dir->enter(w.data_dir, "snapshots", false, &all, &err), KL_OK);
    ck_assert_int_eq(all->enter(all, "0000", false, &c.dir, &err), KL_OK);
    ck_assert_int_eq(c.dir->list(c.dir, compare, &c, &err), KL_OK);
    c.dir->leave(c.dir);
    all->leave(all);
    return c;
}

/* The first pass finds chunks that still grow, and nothing to spill: its file is empty. */
START_TEST(every_file_of_a_snapshot_is_served_as_it_is_also_an_empty_one)
{
    struct compared c;
    struct kl_buf   none = { 0 };
    struct kl_err   err = { 0 };
    uint64_t        snapshot;

    ing_peer_serve(&w.ing->partitions[0], true);
    write_all(60);
    pass();
    c = compare_all();
    ck_assert_uint_eq(c.empty, 1);
    ck_assert_int_eq(ask((struct ing_peer_question){ .file = 1, .offset = 1 }, &none, &snapshot, &err), KL_EINVAL);
    write_all(400);
    pass();
    c = compare_all();
    ck_assert_uint_ge(c.chunks, 1);
    ck_assert_int_eq(ask((struct ing_peer_question){ .snapshot = c.snapshot + 1 }, &none, &snapshot, &err), KL_EAGAIN);
    ck_assert_uint_eq(none.size, 0);
    ing_peer_serve(&w.ing->partitions[0], false);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("peer");
    TCase *t = tcase_create("peer");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_file_of_a_snapshot_is_served_as_it_is_also_an_empty_one);
    suite_add_tcase(s, t);
    return run_suite(s);
}
