/*
 * What a cell of many series would look like, with the code that would place them.
 *
 *   scale [SERIES]        one line a size; without SERIES those of bench/SCALE.md
 *
 * Metrics are drawn with sizes as a heavy tail has them (Pareto, alpha 1.1: a few metrics have most series),
 * each gets the spread that keeps a partition below SPREAD_SERIES of it, and lies where tsp_placement puts
 * it; ingestors in three zones are given the partitions by tsp_rebalance_step, as the coordinator does it,
 * until it has nothing to do. Then one ingestor more comes, and one goes. Costs a series and a sample are
 * those that were measured (bench/README.md, INGEST.md); what follows from them is told beside the loads.
 */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/mem.h"
#include "libtsproto/rebalance.h"

enum { REPLICAS = 2, LOG_REPLICAS = 3, SPREAD_SERIES = 500000, INGESTOR_SERIES = 8000000, NODES_MAX = 512 };
static const double scrape_s = 15, head_bytes = 760, log_bytes = 2.6, stored_bytes = 0.23,
                    cpu_us = 0.6, apply_us = 0.3, ack_s = 0.02;

static uint64_t state = 88172645463325252ull;
static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

struct cell {
    uint32_t partitions;
    double  *series;                                   /* of each partition */
    size_t   metrics, spread;                          /* spread: those with a key */
    double   asked;                                    /* partitions, of a query for one metric, by series */
    struct tsp_placement *table;
    struct tsp_node       nodes[NODES_MAX];
    struct tsp_present    present[NODES_MAX];
    unsigned              node_count;
};

static void place(struct cell *c, double total)
{
    double placed = 0;

    while (placed < total) {
        double   n = floor(20 * pow(uniform(), -1 / 1.1));
        uint8_t  spread = 0;
        char     name[32];
        uint32_t first, count;

        if (n > total / 20)
            n = total / 20;
        if (n > total - placed)
            n = total - placed;
        snprintf(name, sizeof name, "metric_%zu", c->metrics);
        while (n / (double)(1u << spread) > SPREAD_SERIES && 1u << (spread + 1) <= c->partitions)
            spread++;
        tsp_placement_range(c->table, kl_span_str("t"), kl_span_str(name), &first, &count);
        for (uint32_t i = 0; i < 1u << spread; i++)
            c->series[(first + i) % c->partitions] += n / (double)(1u << spread);
        c->asked += n * (double)(1u << spread);
        c->metrics++;
        c->spread += spread > 0;
        placed += n;
    }
    c->asked /= placed;
}

static void add_node(struct cell *c)
{
    struct tsp_node *n = &c->nodes[c->node_count];

    *n = (struct tsp_node){ .capacity = 100, .instance = { { (uint8_t)c->node_count, 1 } } };
    snprintf(n->name, sizeof n->name, "i%03u", c->node_count);
    snprintf(n->zone, sizeof n->zone, "%c", 'a' + (int)(c->node_count % 3));
    c->present[c->node_count++] = (struct tsp_present){ n, TSP_ALIVE };
}

/* Everybody is READY for what it has, as soon as it has it. */
static void hold(struct cell *c)
{
    for (unsigned k = 0; k < c->node_count; k++) {
        struct tsp_node *n = &c->nodes[k];

        if (n->holdings == NULL)
            n->holdings = kl_new(c->partitions * sizeof *n->holdings);
        n->holding_count = 0;
        for (uint32_t p = 0; p < c->partitions; p++) {
            const char *names[TSP_REPLICAS_MAX];
            unsigned    count = tsp_placement_members(c->table, p, names, TSP_REPLICAS_MAX);

            for (unsigned m = 0; m < count; m++)
                if (strcmp(names[m], n->name) == 0)
                    n->holdings[n->holding_count++] = (struct tsp_holding){ p, TSP_HOLDING_READY, 1, 0 };
        }
    }
}

static unsigned rebalance(struct cell *c)
{
    struct tsp_rebalance  want = { .replicas = REPLICAS };
    struct tsp_rebalanced done;
    struct kl_err         err;
    unsigned              joins = 0;

    do {
        hold(c);
        if (tsp_rebalance_step(c->table, c->present, c->node_count, &want, &done, &err) != KL_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        joins += done.joins;
    } while (done.joins + done.leaves + done.owners > 0);
    return joins;
}

/* The largest ingestor's series, of the mean. */
static double skew(const struct cell *c, double *most)
{
    double sum = 0;

    *most = 0;
    for (unsigned k = 0; k < c->node_count; k++) {
        double has = 0;

        for (uint32_t i = 0; i < c->nodes[k].holding_count; i++)
            has += c->series[c->nodes[k].holdings[i].partition];
        sum += has;
        *most = has > *most ? has : *most;
    }
    return *most / (sum / c->node_count);
}

static void tell(double all, double cells, uint32_t partitions)
{
    struct cell c = { .partitions = partitions };
    double      series = all / cells, rate = series / scrape_s, most, uneven;
    unsigned    ingestors = (unsigned)ceil(series * REPLICAS / INGESTOR_SERIES), joins, lost;

    ingestors = ingestors < 3 ? 3 : ingestors;
    c.series = kl_new(partitions * sizeof *c.series);
    c.table = tsp_placement_new(partitions);
    place(&c, series);
    for (unsigned i = 0; i < ingestors; i++)
        add_node(&c);
    rebalance(&c);
    uneven = skew(&c, &most);
    add_node(&c);
    joins = rebalance(&c);
    c.present[0].presence = TSP_GONE;
    lost = rebalance(&c);
    printf("{\"series\": %.0f, \"cells\": %.0f, \"partitions\": %" PRIu32 ", \"ingestors\": %u, \"metrics\": %zu, "
           "\"spread\": %zu, \"asked\": %.1f, \"most_over_mean\": %.2f, \"ingestor_gb\": %.1f, \"moves_for_one_more\": "
           "%u, \"moves_for_one_less\": %u, \"ksamples_per_s\": %.0f, \"doorman_cores\": %.1f, \"ingestor_cores\": %.1f, "
           "\"log_mb_per_s\": %.1f, \"log_with_replicas_mb_per_s\": %.1f, \"log_records_per_s_linger_20ms\": %.0f, "
           "\"linger_ms_for_400_records_a_partition\": %.0f, \"store_mb_per_s\": %.2f, \"store_gb_per_day\": %.1f}\n",
           all, cells, partitions, ingestors, c.metrics, c.spread, c.asked, uneven, most * head_bytes / 1e9, joins,
           lost, rate / 1e3, rate * cpu_us / 1e6, rate * apply_us * REPLICAS / 1e6, rate * log_bytes / 1e6,
           rate * log_bytes * LOG_REPLICAS / 1e6,
           partitions * ceil(rate * cpu_us / 1e6 + 1) / ack_s, 1000 * ceil(rate * cpu_us / 1e6 + 1) / 400,
           rate * stored_bytes / 1e6, rate * stored_bytes * 86400 / 1e9);
    for (unsigned i = 0; i < c.node_count; i++)
        free(c.nodes[i].holdings);
    free(c.series);
    tsp_placement_free(c.table);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        tell(strtod(argv[1], NULL), 1, 64);
        return 0;
    }
    tell(1e6, 1, 16);
    tell(1e7, 1, 64);
    tell(1e8, 2, 256);
    tell(1e9, 20, 256);
    return 0;
}
