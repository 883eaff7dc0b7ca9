/*
 * Which partitions have no room: those whose ingestor's disk is past its high-water mark. Ingestors
 * say so in the KV (libtsproto/disk.h); each gate watches, and keeps the words for each partition.
 */
#include "doorman/dm_priv.h"

#include "libtsproto/disk.h"

#include <stdlib.h>
#include <string.h>

enum { DISKS_MAX = 4096 };

struct dm_disk { char name[KL_BUS_KEY_MAX + 1], words[TSP_DISK_WORDS_MAX + 1]; };

void dm_room_placed(struct dm_gate *g)
{
    struct dm_room *r = &g->rooms;
    uint32_t        partitions = g->placement == NULL ? 0 : tsp_placement_partitions(g->placement);

    memset(r->full, 0, sizeof r->full);
    for (uint32_t n = 0; n < partitions && r->count > 0; n++) {
        const char *owner;

        if (tsp_placement_members(g->placement, n, &owner, 1) == 0)
            continue;
        for (uint32_t i = 0; i < r->count; i++)
            if (strcmp(r->disks[i].name, owner) == 0)
                r->full[n] = (uint16_t)(i + 1);
    }
}

const char *dm_room_refusal(const struct dm_gate *g, uint32_t partition)
{
    uint16_t n = g->rooms.full[partition];

    return n == 0 ? NULL : g->rooms.disks[n - 1].words;
}

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_gate *g = kl_container_of(w, struct dm_gate, rooms.watch);
    struct dm_room *r = &g->rooms;
    const char     *name = key + sizeof TSP_DISK_PREFIX - 1;
    uint32_t        i = 0;

    (void)revision;
    if (strncmp(key, TSP_DISK_PREFIX, sizeof TSP_DISK_PREFIX - 1) != 0)
        return;
    while (i < r->count && strcmp(r->disks[i].name, name) != 0)
        i++;
    if (value.at == NULL || value.size == 0) {
        if (i < r->count)
            r->disks[i] = r->disks[--r->count];
    } else if (i < DISKS_MAX) {
        size_t n = value.size < TSP_DISK_WORDS_MAX ? value.size : TSP_DISK_WORDS_MAX;

        if (i == r->count) {
            r->disks = kl_resize(r->disks, (r->count + 1) * sizeof *r->disks);
            snprintf(r->disks[r->count++].name, sizeof r->disks->name, "%s", name);
        }
        memcpy(r->disks[i].words, value.at, n);
        r->disks[i].words[n] = '\0';
    }
    dm_room_placed(g);
}

static void current(struct kl_bus_watch *w) { (void)w; }

void dm_room_begin(struct dm_gate *g)
{
    g->rooms.watch = (struct kl_bus_watch){ .prefix = TSP_DISK_PREFIX, .loop = g->loop,
                                            .change = change, .current = current };
    g->bus->watch(g->bus, &g->rooms.watch);
}

void dm_room_end(struct dm_gate *g) { g->bus->unwatch(g->bus, &g->rooms.watch); }

void dm_room_deinit(struct dm_gate *g) { free(g->rooms.disks); }
