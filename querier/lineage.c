#include "querier/lineage.h"

#include <stdlib.h>
#include <string.h>

#include "libblock/rollup.h"
#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

enum { ORIGINS_MAX = 1 << 16, NOWHERE = UINT32_MAX };  /* of all that was merged; past it no merge is known */
enum { LOST_MAX = 4096 };

struct name { uint64_t key; uint32_t at; };
struct kin {                                           /* a fileset that answers come of */
    uint64_t key, hash;
    uint32_t group, at;                                /* its group; its place in the manifest */
};
struct group {                                         /* filesets that together are the same as their origins */
    int64_t  min_ms, max_ms;
    uint64_t tenant, samples;
    uint32_t files, first, count;                      /* origins */
    bool     merged, rows;
};
struct qr_lineage {
    uint64_t revision, epoch, incarnation, replay_from;
    uint32_t cut_count;
    struct name *names; size_t name_count;             /* of all filesets, by key */
    uint64_t    *gone;  size_t gone_count;             /* rising */
    struct kin  *kin;   size_t kin_count;              /* by key */
    struct group *groups; size_t group_count, group_room;
    struct qr_origin *origins; size_t origin_count, origin_room;       /* by group */
    struct qr_origin *lost; size_t lost_count;         /* that have gone, by revision; malloc'ed */
    uint64_t          floor;
    struct qr_origin *view; size_t view_count;         /* all of them by tenant and min_ms */
};

/* ---- names ---- */

static uint64_t key_of(const struct blk_info *f)
{
    char path[BLK_PATH_MAX + 1];

    blk_fileset_path(f, path);
    return kl_hash64(path, strlen(path));
}

static uint64_t hash_of(const struct blk_info *f)
{
    uint64_t of[] = { (uint64_t)f->window_start_ms, (uint64_t)f->window_ms, f->id, f->generation,
                      f->incarnation, f->content, f->obeyed, f->quarantined };

    return kl_hash64(of, sizeof of);
}

static uint64_t tenant_of(const char *tenant) { return kl_hash64(tenant, strlen(tenant)); }

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* In an array whose items begin with their key, which rises; or NULL. */
static const void *with_key(uint64_t key, const void *items, size_t count, size_t size)
{
    return count == 0 ? NULL : bsearch(&key, items, count, size, by_number);
}

static void read_names(struct qr_lineage *l, const struct blk_manifest *m)
{
    l->names = kl_resize(NULL, (m->fileset_count + 1) * sizeof *l->names);
    l->gone = kl_resize(NULL, (m->gone_count + 1) * sizeof *l->gone);
    for (uint32_t i = 0; i < m->fileset_count; i++)
        l->names[l->name_count++] = (struct name){ key_of(&m->filesets[i]), i };
    for (uint32_t i = 0; i < m->gone_count; i++)
        l->gone[l->gone_count++] = kl_hash64(m->gone[i].path, strlen(m->gone[i].path));
    qsort(l->names, l->name_count, sizeof *l->names, by_number);
    qsort(l->gone, l->gone_count, sizeof *l->gone, by_number);
}

/* Do answers come of it? */
static bool answers(const struct qr_lineage *l, const struct blk_manifest *m, const struct blk_info *f)
{
    struct blk_info    of = *f;
    const struct name *source;

    if (f->series_count == 0 || f->resolution_ms == 0 || f->carried)
        return f->series_count > 0;
    of.resolution_ms = 0;
    source = with_key(key_of(&of), l->names, l->name_count, sizeof *l->names);
    return source == NULL || m->filesets[source->at].quarantined;
}

/* ---- does it follow? ---- */

static bool has_name(const struct qr_lineage *l, uint64_t key)
{
    return with_key(key, l->names, l->name_count, sizeof *l->names) != NULL;
}

static bool is_gone(const struct qr_lineage *l, uint64_t key)
{
    return with_key(key, l->gone, l->gone_count, sizeof *l->gone) != NULL;
}

/* Is all that came and went between known? One that was made anew of the store forgets cuts and what is gone. */
static bool follows(const struct qr_lineage *l, const struct qr_lineage *before, int64_t ago_ms)
{
    if (before == NULL || ago_ms < 0 || ago_ms >= BLK_GONE_MS / 3 * 2 || l->revision <= before->revision ||
        l->epoch < before->epoch || l->incarnation != before->incarnation || l->replay_from < before->replay_from ||
        (l->cut_count == 0 && before->cut_count > 0))
        return false;
    for (size_t i = 0; i < before->name_count; i++)
        if (!has_name(l, before->names[i].key) && !is_gone(l, before->names[i].key))
            return false;
    for (size_t i = 0; i < l->gone_count; i++)
        if (!is_gone(before, l->gone[i]) && !has_name(before, l->gone[i]))
            return false;
    return true;
}

/* ---- groups ---- */

static struct group *add_group(struct qr_lineage *l)
{
    if (l->group_count == l->group_room) {
        l->group_room = l->group_room == 0 ? 64 : l->group_room * 2;
        l->groups = kl_resize(l->groups, l->group_room * sizeof *l->groups);
    }
    l->groups[l->group_count] = (struct group){ .min_ms = INT64_MAX, .max_ms = INT64_MIN, .first = (uint32_t)l->origin_count };
    return &l->groups[l->group_count++];
}

static void add_origins(struct qr_lineage *l, struct group *g, const struct qr_origin *o, size_t count)
{
    while (l->origin_count + count > l->origin_room) {
        l->origin_room = l->origin_room == 0 ? 64 : l->origin_room * 2;
        l->origins = kl_resize(l->origins, l->origin_room * sizeof *l->origins);
    }
    if (count > 0)
        memcpy(l->origins + l->origin_count, o, count * sizeof *o);
    l->origin_count += count;
    g->count += (uint32_t)count;
}

static void add_file(struct qr_lineage *l, struct group *g, struct kin *k, const struct blk_info *f)
{
    k->group = (uint32_t)(g - l->groups);
    g->files++;
    g->tenant = tenant_of(f->tenant);
    g->samples += f->sample_count;
    g->rows |= f->resolution_ms != 0;
    g->min_ms = f->min_ms < g->min_ms ? f->min_ms : g->min_ms;
    g->max_ms = f->max_ms > g->max_ms ? f->max_ms : g->max_ms;
}

static void add_leaf(struct qr_lineage *l, struct kin *k, const struct blk_info *f, bool told)
{
    struct qr_origin o = { f->min_ms, f->max_ms, tenant_of(f->tenant), k->hash, l->revision, f->id, f->incarnation, told };
    struct group    *g = add_group(l);

    add_file(l, g, k, f);
    add_origins(l, g, &o, 1);
}

/* ---- from one manifest to the next ---- */

struct node { uint64_t tenant; int64_t min_ms, max_ms; uint32_t group, kin; };  /* what was there; or what has come */
struct change {
    struct qr_lineage       *l;
    const struct qr_lineage *before;
    const struct blk_manifest *m;
    uint32_t    *was;                                  /* of each of l->kin: its group before; NOWHERE */
    uint32_t    *stay;                                 /* of each group before: how many of its filesets are here, */
    uint64_t    *samples;                              /* and what they have; */
    bool        *known;                                /* what became of those that are not */
    size_t       merged;                               /* origins of what was merged */
};

static int by_time(const void *a, const void *b)
{
    const struct node *x = a, *y = b;

    return x->tenant != y->tenant ? (x->tenant < y->tenant ? -1 : 1) : x->min_ms < y->min_ms ? -1 : x->min_ms > y->min_ms;
}

static void find_stayers(struct change *c)
{
    for (size_t i = 0; i < c->l->kin_count; i++) {
        const struct kin *k = c->before == NULL ? NULL
            : with_key(c->l->kin[i].key, c->before->kin, c->before->kin_count, sizeof *k);

        c->was[i] = NOWHERE;
        if (k == NULL || k->hash != c->l->kin[i].hash)
            continue;
        c->was[i] = k->group;
        c->stay[k->group]++;
        c->samples[k->group] += c->m->filesets[c->l->kin[i].at].sample_count;
    }
}

/* A group before that is whole here. */
static uint32_t take_over(struct change *c, const struct group *b)
{
    struct group *g = add_group(c->l);

    g->merged = b->merged;
    add_origins(c->l, g, c->before->origins + b->first, b->count);
    c->merged += b->merged ? b->count : 0;
    return (uint32_t)(g - c->l->groups);
}

/* Filesets that touch one another in time, and of these groups what lies in their time. */
static void add_cluster(struct change *c, const struct node *files, size_t count, const uint32_t *groups, size_t group_count)
{
    struct group *g = add_group(c->l);

    g->merged = true;
    for (size_t i = 0; i < count; i++)
        add_file(c->l, g, &c->l->kin[files[i].kin], &c->m->filesets[c->l->kin[files[i].kin].at]);
    for (size_t i = 0; i < group_count; i++) {
        const struct group *b = &c->before->groups[groups[i]];

        for (size_t k = 0; k < b->count; k++) {
            struct qr_origin o = c->before->origins[b->first + k];

            o.min_ms = o.min_ms < g->min_ms ? g->min_ms : o.min_ms;
            o.max_ms = o.max_ms > g->max_ms ? g->max_ms : o.max_ms;
            if (o.min_ms <= o.max_ms)
                add_origins(c->l, g, &o, 1);
        }
    }
    c->merged += g->count;
}

/* How many of the nodes, by time, touch one another. */
static size_t touching(const struct node *n, size_t count)
{
    int64_t until = n[0].max_ms;
    size_t  i = 1;

    for (; i < count && n[i].tenant == n[0].tenant && n[i].min_ms <= until; i++)
        until = n[i].max_ms > until ? n[i].max_ms : until;
    return i;
}

static struct node node_of(const struct change *c, size_t kin)
{
    const struct blk_info *f = &c->m->filesets[c->l->kin[kin].at];

    return (struct node){ tenant_of(f->tenant), f->min_ms, f->max_ms, NOWHERE, (uint32_t)kin };
}

/* Nodes that touch one another in time: was what has come made of what was there, all of it? Then what has come and
 * what stayed is as the groups were, each cluster in its own time: what lies in no other's is in it. */
static void component(struct change *c, const struct node *n, size_t count)
{
    struct node *files = kl_resize(NULL, (c->l->kin_count + 1) * sizeof *files);
    uint32_t    *groups = kl_resize(NULL, (count + 1) * sizeof *groups);
    uint64_t     had = 0, has = 0;
    size_t       group_count = 0, file_count = 0, origins = 0, come;

    for (size_t i = 0; i < count; i++)
        if (n[i].group == NOWHERE) {
            has += c->m->filesets[c->l->kin[n[i].kin].at].sample_count;
            files[file_count++] = n[i];
        } else {
            had += c->before->groups[n[i].group].samples;
            has += c->samples[n[i].group];
            origins += c->before->groups[n[i].group].count;
            groups[group_count++] = n[i].group;
        }
    come = file_count;
    if (come > 0 && group_count > 0 && had == has && c->merged + origins <= ORIGINS_MAX) {
        for (size_t i = 0; i < c->l->kin_count; i++)
            for (size_t k = 0; k < group_count && c->was[i] != NOWHERE; k++)
                if (c->was[i] == groups[k])
                    files[file_count++] = node_of(c, i);
        qsort(files, file_count, sizeof *files, by_time);
        for (size_t i = 0, k; i < file_count; i += k) {
            k = touching(files + i, file_count - i);
            add_cluster(c, files + i, k, groups, group_count);
        }
        for (size_t k = 0; k < group_count; k++)
            c->known[groups[k]] = true;
    }
    free(groups);
    free(files);
}

static void find_merges(struct change *c)
{
    struct node *n = kl_resize(NULL, (c->l->kin_count + c->before->group_count + 1) * sizeof *n);
    size_t       count = 0;

    for (uint32_t i = 0; i < c->before->group_count; i++) {
        const struct group *g = &c->before->groups[i];

        if (c->stay[i] < g->files && !g->rows)
            n[count++] = (struct node){ g->tenant, g->min_ms, g->max_ms, i, NOWHERE };
    }
    for (size_t i = 0; i < c->l->kin_count; i++) {
        const struct blk_info *f = &c->m->filesets[c->l->kin[i].at];

        if (c->was[i] == NOWHERE && f->generation > 0 && f->resolution_ms == 0 && !f->quarantined &&
            !has_name(c->before, c->l->kin[i].key))
            n[count++] = node_of(c, i);
    }
    qsort(n, count, sizeof *n, by_time);
    for (size_t i = 0, k; i < count; i += k) {
        k = touching(n + i, count - i);
        component(c, n + i, k);
    }
    free(n);
}

/* What is not what it was, nor in what has come: who had it by the log alone has it no more. */
static void read_lost(struct change *c)
{
    struct qr_lineage       *l = c->l;
    const struct qr_lineage *b = c->before;
    size_t                   count = b != NULL ? b->lost_count : 0, over;

    l->floor = b != NULL ? b->floor : 0;
    l->lost = kl_resize(NULL, (count + (b != NULL ? b->group_count : 0) + 1) * sizeof *l->lost);
    for (size_t i = 0; i < count; i++)
        l->lost[l->lost_count++] = b->lost[i];
    for (size_t i = 0; b != NULL && i < b->group_count; i++) {
        const struct group *g = &b->groups[i];

        if (c->stay[i] < g->files && !c->known[i])
            l->lost[l->lost_count++] = (struct qr_origin){ .min_ms = g->min_ms, .max_ms = g->max_ms, .tenant = g->tenant,
                                                           .added = l->revision };
    }
    if (l->lost_count <= LOST_MAX)
        return;
    over = l->lost_count - LOST_MAX;
    l->floor = l->lost[over - 1].added;
    l->lost_count -= over;
    memmove(l->lost, l->lost + over, l->lost_count * sizeof *l->lost);
}

static void read_groups(struct change *c, bool known)
{
    size_t    count = c->before != NULL ? c->before->group_count : 0;
    uint32_t *to = kl_resize(NULL, (count + 1) * sizeof *to);

    c->was = kl_resize(NULL, (c->l->kin_count + 1) * sizeof *c->was);
    c->stay = kl_new((count + 1) * sizeof *c->stay);
    c->samples = kl_new((count + 1) * sizeof *c->samples);
    c->known = kl_new((count + 1) * sizeof *c->known);
    find_stayers(c);
    for (uint32_t i = 0; i < count; i++) {
        const struct group *g = &c->before->groups[i];

        to[i] = c->stay[i] == g->files ? take_over(c, g) : NOWHERE;
    }
    for (size_t i = 0; i < c->l->kin_count; i++)
        c->l->kin[i].group = NOWHERE;
    if (known)
        find_merges(c);
    for (size_t i = 0; i < c->l->kin_count; i++) {
        struct kin            *k = &c->l->kin[i];
        const struct blk_info *f = &c->m->filesets[k->at];

        if (k->group != NOWHERE)
            continue;
        if (c->was[i] != NOWHERE && to[c->was[i]] != NOWHERE)
            add_file(c->l, &c->l->groups[to[c->was[i]]], k, f);
        else
            add_leaf(c->l, k, f, known && !has_name(c->before, k->key) && f->generation == 0 && f->resolution_ms == 0 &&
                                 !f->quarantined && f->incarnation == c->m->incarnation);
    }
    read_lost(c);
    free(to);
    free(c->known);
    free(c->was);
    free(c->stay);
    free(c->samples);
}

/* ---- as it is asked for ---- */

static int by_tenant(const void *a, const void *b)
{
    const struct qr_origin *x = a, *y = b;

    return x->tenant != y->tenant ? (x->tenant < y->tenant ? -1 : 1) : x->min_ms < y->min_ms ? -1 : x->min_ms > y->min_ms;
}

struct qr_lineage *qr_lineage_new(const struct blk_manifest *m, const struct qr_lineage *before, int64_t ago_ms)
{
    struct qr_lineage *l = kl_new(sizeof *l);
    struct change      c = { .l = l, .before = before, .m = m };

    l->revision = m->revision;
    l->epoch = m->epoch;
    l->incarnation = m->incarnation;
    l->replay_from = m->replay_from;
    l->cut_count = m->cut_count;
    read_names(l, m);
    l->kin = kl_resize(NULL, (l->name_count + 1) * sizeof *l->kin);
    for (size_t i = 0; i < l->name_count; i++)
        if (answers(l, m, &m->filesets[l->names[i].at]))
            l->kin[l->kin_count++] = (struct kin){ .key = l->names[i].key, .hash = hash_of(&m->filesets[l->names[i].at]),
                                                   .at = l->names[i].at };
    read_groups(&c, follows(l, before, ago_ms));
    l->view = kl_resize(NULL, (l->origin_count + l->lost_count + 1) * sizeof *l->view);
    for (size_t i = 0; i < l->origin_count; i++)
        l->view[l->view_count++] = l->origins[i];
    for (size_t i = 0; i < l->lost_count; i++)
        l->view[l->view_count++] = l->lost[i];
    qsort(l->view, l->view_count, sizeof *l->view, by_tenant);
    return l;
}

void qr_lineage_free(struct qr_lineage *l)
{
    if (l == NULL)
        return;
    free(l->names);
    free(l->gone);
    free(l->kin);
    free(l->groups);
    free(l->origins);
    free(l->lost);
    free(l->view);
    free(l);
}

uint64_t qr_lineage_floor(const struct qr_lineage *l) { return l->floor; }

size_t qr_lineage_of(const struct qr_lineage *l, const char *tenant, const struct qr_origin **first)
{
    uint64_t key = tenant_of(tenant);
    size_t   low = 0, high = l->view_count, n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (l->view[mid].tenant < key)
            low = mid + 1;
        else
            high = mid;
    }
    for (n = low; n < l->view_count && l->view[n].tenant == key; n++)
        ;
    *first = l->view + low;
    return n - low;
}
