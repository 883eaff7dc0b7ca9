#ifndef TSP_DISK_H
#define TSP_DISK_H
/*
 * What ingestors tell doormen of their disks: a key of the KV, "disk.<ingestor>", that is there while
 * that ingestor's disk is past its high-water mark. Its value is the words for whoever is refused.
 */
#include <stddef.h>
#include <stdio.h>

#define TSP_DISK_PREFIX "disk."
enum { TSP_DISK_WORDS_MAX = 240 };
static inline void tsp_disk_key(const char *ingestor, char *key, size_t size)
{
    snprintf(key, size, TSP_DISK_PREFIX "%s", ingestor);
}
#endif
