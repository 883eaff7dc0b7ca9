/*
 * Filesets that stay in the ingestor's own folder, too, while they have samples younger than
 * `ingestor.local_retention`: merges read them there, and a querier of the same process. What is older
 * went with the commit that put it into the catalogue; what becomes older, or is replaced, goes by a
 * job of the partition's queue, so that nothing else of it is at work on them. At a start those that
 * the catalogue names and that are young enough are kept as they are.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { EVERY_MS = 5000 };

bool ing_local_keeps(const struct ing_partition *p, int64_t max_ms)
{
    int64_t keep_ms = p->i->o.local_retention_ms;

    return keep_ms > 0 && max_ms > kl_env_now_ms(p->i->env) - keep_ms;
}

void ing_local_loaded(struct ing_partition *p)
{
    p->local_until_ms = kl_env_now_ms(p->i->env) - p->i->o.local_retention_ms;
    p->local_gone_ms = 0;
}

static void add(struct ing_job *j, const char *path)
{
    if ((j->evict_count & (j->evict_count - 1)) == 0)
        j->evict = kl_resize(j->evict, (j->evict_count == 0 ? 1 : (size_t)j->evict_count * 2) * sizeof *j->evict);
    strcpy(j->evict[j->evict_count++], path);
}

/* What turned old since the last look, and what the catalogue has let go of. All of it: filesets of many
 * tenants end at one time. */
static void choose(struct ing_partition *p, struct ing_job *j, int64_t until_ms)
{
    const struct blk_manifest *m = &p->manifest;
    int64_t                    gone_ms = p->local_gone_ms, now_ms = kl_env_now_ms(p->i->env);
    char                       path[BLK_PATH_MAX + 1];

    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (m->filesets[i].max_ms <= until_ms && m->filesets[i].max_ms > p->local_until_ms) {
            blk_fileset_path(&m->filesets[i], path);
            add(j, path);
        }
    for (uint32_t i = 0; i < m->gone_count; i++)
        if (m->gone[i].at_ms > p->local_gone_ms && m->gone[i].at_ms <= now_ms) {   /* orphans: of a time to come */
            add(j, m->gone[i].path);
            gone_ms = m->gone[i].at_ms > gone_ms ? m->gone[i].at_ms : gone_ms;
        }
    p->local_until_ms = until_ms;
    p->local_gone_ms = gone_ms;
}

void ing_local_tick(struct ing_partition *p)
{
    int64_t         now_ns = kl_env_mono_ns(p->i->env);
    struct ing_job *j;

    if (p->i->o.local_retention_ms == 0 || p->jobs != NULL || atomic_load(&p->state) != ING_LIVE ||
        now_ns < p->local_again_ns)
        return;
    p->local_again_ns = now_ns + EVERY_MS * INT64_C(1000000);
    j = kl_new(sizeof *j);
    j->p = p;
    j->step = ING_CLEAN;
    choose(p, j, kl_env_now_ms(p->i->env) - p->i->o.local_retention_ms);
    if (j->evict_count == 0) {
        ing_job_free(j);
        return;
    }
    ing_job_queue(j);
}

/* Work. What is not there was never here: another owner wrote it, or it was too old from the beginning. */
enum kl_code ing_local_evict(struct ing_job *j, struct kl_err *err)
{
    for (uint32_t i = 0; i < j->evict_count; i++) {
        enum kl_code code = blk_fileset_remove(j->p->filesets, j->evict[i], err);

        if (code == KL_OK)
            kl_count(j->p->i->m.evicted, 1);
        else if (code != KL_ENOENT)
            return code;
    }
    err->code = KL_OK;
    return KL_OK;
}
