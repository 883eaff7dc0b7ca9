/* Series in the order of their labels: kept orders where there are some, else sorted (libkoal/base/labels.h). */
#include <stdlib.h>

#include "querier/qr_priv.h"

static void permute(struct pql_series *series, const uint32_t *order, size_t count)
{
    struct pql_series *sorted = kl_resize(NULL, count * sizeof *sorted);

    for (size_t i = 0; i < count; i++)
        sorted[i] = series[order[i]];
    memcpy(series, sorted, count * sizeof *series);
    free(sorted);
}

static void order_of(const struct pql_series *series, uint32_t *order, size_t count)
{
    struct kl_labels *labels = kl_resize(NULL, count * sizeof *labels);

    for (size_t i = 0; i < count; i++)
        labels[i] = series[i].labels;
    kl_labels_order(labels, order, count);
    free(labels);
}

static void order_by(struct qr_job *j, const struct kl_fp *key, struct pql_series *series,
                     size_t count)
{
    size_t    bytes = count * (sizeof(struct kl_labels) + sizeof(uint32_t) + sizeof *series +
                               KL_LABELS_ORDER_BYTES);
    uint32_t *order;

    if (count < 2 || (j != NULL && !kl_budget_take(&j->budget, bytes)))
        return;
    order = kl_resize(NULL, count * sizeof *order);
    if (key == NULL || !qr_orders_get(&j->shard->orders, *key, order, count)) {
        order_of(series, order, count);
        if (key != NULL)
            qr_orders_put(&j->shard->orders, *key, order, count);
    }
    permute(series, order, count);
    free(order);
    if (j != NULL)
        kl_budget_give(&j->budget, bytes);
}

void qr_order_series(struct qr_job *j, struct pql_series *series, size_t count)
{
    order_by(j, NULL, series, count);
}

void qr_order_known(struct qr_job *j, struct kl_fp key, struct pql_series *series, size_t count)
{
    order_by(j, &key, series, count);
}
