/*
 * An owner that cannot set its catalogue's pointer loses its lease for a while, follows what another commits, and has
 * the lease again: what it commits then is built upon that, also where it was built before.
 */
#include "tests/sim/cluster.h"

#include "ingestor/ing_priv.h"
#include "libblock/manifest.h"
#include "libkoal/base/mem.h"

static bool failing;                                   /* no pointer can be set by the owner */
static void (*kv_before)(struct kl_bus *b, struct kl_bus_kv *op);
static struct c_node *node;

struct late { struct kl_env_task task; struct kl_bus_kv *op; };

static void late(struct kl_env_task *task)
{
    struct kl_bus_kv *op = kl_container_of(task, struct late, task)->op;

    op->code = kl_fail(&op->err, KL_EAGAIN, "the KV is away");
    op->done(op);
}

static void kv(struct kl_bus *b, struct kl_bus_kv *op)
{
    struct late *l;

    if (!failing || op->kind != KL_BUS_KV_PUT || strcmp(op->key, "catalogue.0000") != 0) {
        kv_before(b, op);
        return;
    }
    l = kl_new(sizeof *l);
    *l = (struct late){ .task.run = late, .op = op };
    node->env->sched->post(op->loop, &l->task);
}

static void write_some(struct cell *c, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        struct kl_buf    body = { 0 };
        struct kit_push *out = kl_new(sizeof *out);
        int64_t          now_ms = kl_env_now_ms(c->env);

        for (unsigned k = 0; k < 40; k++)
            kl_buf_addf(&body, "told_%u{series=\"%u\"} %u %" PRId64 "\n", k % 20, k, n, now_ms);
        kit_push(out, c->nodes[0].dm, 0, body, kl_hash128(body.at, body.size), now_ms);
        for (int t = 0; t < 200 && !out->done; t++)
            kl_env_sim_run(c->sim, 100);
        ck_assert(out->done && out->p.status == 204);
    }
}

static struct ing_partition *owners(struct cell *c)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (ing_epoch(&c->nodes[i].ing->partitions[0]) != 0) {
            node = &c->nodes[i];
            return &node->ing->partitions[0];
        }
    ck_abort_msg("nobody owns it");
}

/* As another owner commits, who has not come to the cut: here a fileset that is gone. */
static void commit_by_another(struct cell *c, const struct ing_partition *p, const char *gone)
{
    struct kl_store    *store = c_store(c);
    struct blk_manifest m = { 0 };
    struct blk_pointer  at;
    struct kl_buf       b = { 0 };
    struct kl_err       err = { 0 };
    char                key[KL_STORE_KEY_MAX + 1];

    blk_manifest_copy(&m, &p->manifest);
    m.partition = 0;
    m.revision += 7;
    m.incarnation = p->incarnation;
    blk_manifest_gone(&m, gone, kl_env_now_ms(c->env));
    blk_manifest_encode(&m, &b);
    blk_manifest_key(0, m.revision, key);
    ck_assert_msg(store->put(store, key, kl_buf_span(&b), &err) == KL_OK, "%s", err.text);
    at = (struct blk_pointer){ .revision = m.revision, .epoch = m.epoch, .digest = kl_hash64(b.at, b.size) };
    kl_buf_reset(&b);
    blk_pointer_encode(&at, &b);
    c_kv(c, KL_BUS_KV_PUT, "catalogue.0000", kl_buf_span(&b));
    for (int n = 0; n < 300 && p->manifest.revision != m.revision; n++)
        kl_env_sim_run(c->sim, 100);
    ck_assert_uint_eq(p->manifest.revision, m.revision);       /* it is followed */
    kl_buf_deinit(&b);
    blk_manifest_deinit(&m);
    store->close(store);
}

static bool has_gone(const struct blk_manifest *m, const char *path)
{
    for (uint32_t i = 0; i < m->gone_count; i++)
        if (strcmp(m->gone[i].path, path) == 0)
            return true;
    return false;
}

START_TEST(what_another_committed_meanwhile_is_built_upon)
{
    static const char     gone[] = "anonymous/0000/0-00000000000000000001.99";
    struct cell          *c = kl_new(sizeof *c);
    struct ing_partition *p;

    c_init(c, 9000 + (uint64_t)_i);
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(c, i);
    c_settle(c, "at the beginning");
    write_some(c, 20);
    p = owners(c);
    kit_flush(node->ing, c->loop);
    kl_env_sim_run(c->sim, 5000);
    ck_assert_uint_gt(p->manifest.revision, 0);
    write_some(c, 20);
    kv_before = node->bus->kv;
    node->bus->kv = kv;
    failing = true;
    kit_flush(node->ing, c->loop);
    for (int n = 0; n < 600 && (p->jobs == NULL || p->jobs->step != ING_POINT || p->jobs->failures == 0); n++)
        kl_env_sim_run(c->sim, 50);
    ck_assert(p->jobs != NULL && p->jobs->step == ING_POINT && p->jobs->failures > 0);
    p->fenced = UINT64_MAX;                            /* its lease is another's */
    commit_by_another(c, p, gone);
    ck_assert(p->jobs != NULL);
    failing = false;
    p->fenced = 0;                                     /* and its own again */
    for (int n = 0; n < 600 && p->jobs != NULL; n++)
        kl_env_sim_run(c->sim, 100);
    ck_assert_ptr_null(p->jobs);
    ck_assert(has_gone(&p->manifest, gone));
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* the cells are not taken down */

int main(void)
{
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, what_another_committed_meanwhile_is_built_upon, 0, 2);
    return kit_run("upon", t);
}
