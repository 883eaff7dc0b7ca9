/* What is to be done next in a partition: what is in force for its tenants, asked of the plan. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/config.h"
#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { SWEEP_MAX = 64, SEEN_MS = 60000 };

/* What is in force for a tenant; *hold is let go by kl_config_free. NULL: nothing but the options is said. */
static const struct kl_config *config_of(const struct ing_options *o, const char *tenant, struct kl_config **hold)
{
    *hold = o->live != NULL ? kl_env_live_get(o->live) : o->config != NULL ? kl_config_ref(o->config) : NULL;
    return *hold != NULL ? kl_config_tenant(*hold, kl_span_str(tenant)) : NULL;
}

static void rules_of(void *ctx, const char *tenant, int64_t *retention_ms, int64_t *window_ms)
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);

    *retention_ms = c != NULL ? kl_config_int(c, "retention") : o->retention_ms;
    *window_ms = c != NULL ? kl_config_int(c, "compaction.window") : o->compact_window_ms;
    kl_config_free(hold);
    if (*window_ms < o->window_ms)
        *window_ms = o->window_ms;
    *window_ms = (*window_ms + o->window_ms - 1) / o->window_ms * o->window_ms;
}

static void rollups_of(void *ctx, const char *tenant, int64_t keep_ms[BLK_ROLLUPS_MAX])
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);

    keep_ms[0] = c != NULL ? kl_config_int(c, "rollup.5m") : o->rollup_ms[0];
    keep_ms[1] = c != NULL ? kl_config_int(c, "rollup.1h") : o->rollup_ms[1];
    kl_config_free(hold);
}

static struct kl_retention *keep_of(void *ctx, const char *tenant)
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);
    const char               *text = c != NULL ? kl_config_text(c, "retention_rules") : o->retention_rules;
    struct kl_retention      *keep = NULL;
    struct kl_err             err;

    if (text != NULL && kl_retention_new(text, &keep, &err) != KL_OK) {
        kl_logf(o->log, KL_ERROR, "ingestor: retention_rules of tenant %s: %s", tenant, err.text);
        keep = NULL;                                   /* checked when it was loaded: never */
    }
    kl_config_free(hold);
    return keep;
}

/* Whatever a manifest says is gone: what it names is not. */
static bool named(const struct blk_manifest *m, uint32_t gone)
{
    struct blk_info info;
    struct kl_err   unfit;

    return blk_fileset_path_parse(m->gone[gone].path, &info, &unfit) != KL_OK ||
           blk_manifest_find(m, &info) < m->fileset_count;
}

/* Old objects and manifests whose time has come. */
static bool plan_sweep(struct ing_partition *p, struct ing_tidy *t)
{
    int64_t now_ms = kl_env_now_ms(p->i->env);

    for (uint32_t i = 0; i < p->manifest.gone_count && t->path_count < SWEEP_MAX; i++) {
        if (p->manifest.gone[i].at_ms > now_ms - ING_OLD_MS || named(&p->manifest, i))
            continue;
        if (t->paths == NULL)
            t->paths = kl_resize(NULL, SWEEP_MAX * sizeof *t->paths);
        strcpy(t->paths[t->path_count++], p->manifest.gone[i].path);
    }
    for (uint32_t i = 0; i < p->old_count && t->revision_count < SWEEP_MAX; i++) {
        if (p->olds[i].at_ms > now_ms)
            continue;
        if (t->revisions == NULL)
            t->revisions = kl_resize(NULL, SWEEP_MAX * sizeof *t->revisions);
        t->revisions[t->revision_count++] = p->olds[i].revision;
    }
    t->plan.what = ING_TIDY_SWEEP;
    return t->path_count > 0 || t->revision_count > 0;
}

/* Those in quarantine, once after each start. */
static bool plan_check(struct ing_partition *p, struct ing_tidy *t)
{
    if (p->checked)
        return false;
    p->checked = true;
    for (uint32_t i = 0; i < p->manifest.fileset_count; i++)
        if (p->manifest.filesets[i].quarantined) {
            t->plan.inputs = kl_resize(t->plan.inputs, (t->plan.input_count + 1) *
                                                           sizeof *t->plan.inputs);
            t->plan.inputs[t->plan.input_count++] = p->manifest.filesets[i];
        }
    t->plan.what = ING_TIDY_CHECK;
    return t->plan.input_count > 0;
}

static bool is_thinned(void *ctx, uint64_t hash)
{
    const struct ing_partition *p = ctx;

    for (uint32_t i = 0; i < p->thinned_count; i++)
        if (p->thinned[i] == hash)
            return true;
    return false;
}

bool ing_tidy_next(struct ing_partition *p, struct ing_tidy *t)
{
    const struct ing_options *o = &p->i->o;
    struct ing_tidy_rules     rules = { .block_ms = o->window_ms, .files_min = o->compact_files,
                                        .settle_ms = 2 * o->cut_delay_ms,
                                        .bytes_max = o->compact_bytes_max, .tenant = rules_of, .rollups = rollups_of,
                                        .deletion_ms = o->deletion_ms,
                                        .clean_number = p->clean_number, .keep = keep_of,
                                        .thinned = is_thinned, .ctx = p };

    bool                      busy = atomic_load(&p->i->compacting);
    int64_t                   now_ns = kl_env_mono_ns(p->i->env);

    if (plan_sweep(p, t) || plan_check(p, t))
        return true;
    /* A catalogue of many filesets is not sorted again and again while nothing comes to it. */
    if (p->manifest.revision == p->tidy_seen && now_ns < p->tidy_seen_until_ns)
        return ing_orphans_plan(p, t);
    rules.busy = busy;                                 /* another partition's turn */
    ing_tidy_plan(&p->manifest, &rules, ing_sure_now_ms(p->i), &t->plan);
    if (t->plan.what == ING_TIDY_NOTHING && !busy) {
        p->tidy_seen = p->manifest.revision;
        p->tidy_seen_until_ns = now_ns + INT64_C(1000000) * SEEN_MS;
    }
    if (t->plan.what == ING_TIDY_COMPACT || t->plan.what == ING_TIDY_OBEY) {
        bool free_turn = false;

        t->compacting = atomic_compare_exchange_strong(&p->i->compacting, &free_turn, true);
        return t->compacting;
    }
    return t->plan.what != ING_TIDY_NOTHING || ing_orphans_plan(p, t);
}
