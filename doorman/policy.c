#include "doorman/policy.h"

#include "libkoal/base/labels.h"
#include "libkoal/env/sched.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { BURST_S = 10 };                                 /* of the rate, where no burst is said */

struct dm_policies {
    struct kl_env_held held;
    struct kl_config *config;                          /* texts of the policies are its; or NULL */
    struct dm_policy  all;
    struct rules { const char *text; struct kl_relabel *relabel; } *rules;   /* each text once */
    size_t            rules_count;
    size_t            count;
    struct entry { const struct kl_config *view; struct dm_policy *policy; } *own;  /* by view */
};

void dm_limits_read(const struct kl_config *c, struct dm_limits *l)
{
    *l = (struct dm_limits){
        .label_count_max = (uint32_t)kl_config_int(c, "limits.label_count_max"),
        .name_bytes_max = (uint32_t)kl_config_int(c, "limits.name_bytes_max"),
        .value_bytes_max = (uint32_t)kl_config_int(c, "limits.value_bytes_max"),
        .body_bytes_max = (uint64_t)kl_config_int(c, "limits.body_bytes_max"),
        .inflated_bytes_max = (uint64_t)kl_config_int(c, "limits.inflated_bytes_max"),
        .past_ms = kl_config_int(c, "limits.past"),
        .future_ms = kl_config_int(c, "limits.future"),
        .inflight_bytes_max = (uint64_t)kl_config_int(c, "limits.inflight_bytes_max"),
        .samples_per_push_max = (uint64_t)kl_config_int(c, "limits.samples_per_push_max"),
        .samples_per_s = (double)kl_config_int(c, "limits.samples_per_s"),
        .burst_samples = (double)kl_config_int(c, "limits.burst_samples"),
        .series_max = (uint64_t)kl_config_int(c, "limits.series_max"),
    };
}

static void fill_in(struct dm_limits *l)
{
    if (l->label_count_max == 0 || l->label_count_max > KL_LABELS_MAX)
        l->label_count_max = KL_LABELS_MAX;
    if (l->name_bytes_max == 0)
        l->name_bytes_max = 1024;
    if (l->value_bytes_max == 0)
        l->value_bytes_max = 4096;
    if (l->burst_samples == 0)
        l->burst_samples = l->samples_per_s * BURST_S;
}

/* A tenant that inherits its rules has the very text of those it inherits from. */
static const struct kl_relabel *rules_of(struct dm_policies *p, const struct kl_config *view)
{
    const char        *text = kl_config_text(view, "write_relabel");
    struct kl_relabel *r;
    struct kl_err      err;

    if (text == NULL)
        return NULL;
    if (p->rules_count > 0 && p->rules[0].text == text)
        return p->rules[0].relabel;
    if (kl_relabel_new(text, &r, &err) != KL_OK)
        abort();                                       /* the option's check has passed it */
    if (kl_relabel_count(r) == 0) {
        kl_relabel_free(r);
        return NULL;
    }
    p->rules = kl_resize(p->rules, (p->rules_count + 1) * sizeof *p->rules);
    p->rules[p->rules_count++] = (struct rules){ text, r };
    return r;
}

/* What of a policy is more than numbers. */
static void read_rest(struct dm_policies *all, const struct kl_config *c, struct dm_policy *p)
{
    const char *cluster = kl_config_text(c, "ha.cluster_label"), *replica = kl_config_text(c, "ha.replica_label");

    p->relabel = rules_of(all, c);
    p->relabel_text = kl_config_text(c, "write_relabel");
    p->ha = kl_config_bool(c, "ha.enabled") && cluster[0] != '\0' && replica[0] != '\0';
    p->ha_cluster = kl_span_str(cluster);
    p->ha_replica = kl_span_str(replica);
    p->ha_failover_ms = kl_config_int(c, "ha.failover");
    p->ha_clusters_max = (uint32_t)kl_config_int(c, "ha.clusters_max");
}

static int by_view(const void *a, const void *b)
{
    const char *x = (const char *)((const struct entry *)a)->view;
    const char *y = (const char *)((const struct entry *)b)->view;

    return (x > y) - (x < y);
}

static void drop(struct kl_env_held *h)
{
    struct dm_policies *p = kl_container_of(h, struct dm_policies, held);

    for (size_t i = 0; i < p->count; i++)
        free(p->own[i].policy);
    for (size_t i = 0; i < p->rules_count; i++)
        kl_relabel_free(p->rules[i].relabel);
    free(p->rules);
    free(p->own);
    kl_config_free(p->config);
    free(p);
}

struct dm_policies *dm_policies_new(const struct kl_config *config, const struct dm_limits *all)
{
    struct dm_policies     *p = kl_new(sizeof *p);
    const struct kl_config *view;
    const char             *name;

    kl_env_held_init(&p->held, drop);
    p->config = config != NULL ? kl_config_ref(config) : NULL;
    p->all.limits = *all;
    fill_in(&p->all.limits);
    if (config == NULL)
        return p;
    read_rest(p, config, &p->all);
    while (kl_config_tenant_at(config, p->count, &name) != NULL)
        p->count++;
    p->own = kl_new((p->count + 1) * sizeof *p->own);
    for (size_t i = 0; (view = kl_config_tenant_at(config, i, &name)) != NULL; i++) {
        p->own[i] = (struct entry){ view, kl_new(sizeof *p->own[i].policy) };
        dm_limits_read(view, &p->own[i].policy->limits);
        fill_in(&p->own[i].policy->limits);
        read_rest(p, view, p->own[i].policy);
    }
    qsort(p->own, p->count, sizeof *p->own, by_view);
    return p;
}

void dm_policies_free(struct dm_policies *p) { kl_env_held_unref(p != NULL ? &p->held : NULL); }
struct kl_env_held *dm_policies_held(struct dm_policies *p) { return &p->held; }

struct dm_policies *dm_policies_of_held(struct kl_env_held *h)
{
    return kl_container_of(h, struct dm_policies, held);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool dm_policy_reads_alike(const struct dm_policy *a, const struct dm_policy *b)
{
    return a->limits.label_count_max == b->limits.label_count_max &&
           a->limits.name_bytes_max == b->limits.name_bytes_max &&
           a->limits.value_bytes_max == b->limits.value_bytes_max &&
           same_text(a->relabel_text, b->relabel_text) && a->ha == b->ha &&
           (!a->ha || (kl_span_eq(a->ha_cluster, b->ha_cluster) && kl_span_eq(a->ha_replica, b->ha_replica)));
}

const struct dm_policy *dm_policy_of(const struct dm_policies *p, struct kl_span tenant)
{
    struct entry        want = { .view = p->config };
    const struct entry *found;

    if (p->count == 0)
        return &p->all;
    want.view = kl_config_tenant(p->config, tenant);
    found = want.view == p->config ? NULL
                                   : bsearch(&want, p->own, p->count, sizeof *p->own, by_view);
    return found == NULL ? &p->all : found->policy;
}

bool dm_policies_ha(const struct dm_policies *p)
{
    bool any = p->all.ha;

    for (size_t i = 0; i < p->count; i++)
        any = any || p->own[i].policy->ha;
    return any;
}

uint64_t dm_policies_body_max(const struct dm_policies *p)
{
    uint64_t most = p->all.limits.body_bytes_max;

    for (size_t i = 0; i < p->count; i++)
        if (p->own[i].policy->limits.body_bytes_max > most)
            most = p->own[i].policy->limits.body_bytes_max;
    return most;
}
