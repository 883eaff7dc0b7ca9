/* meta.json; and tombstones, whose checksum is put right. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/tsdb.h"
#include "libkoal/base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_tsdb_meta   m;
    struct tsp_tsdb_stone *stones;
    size_t                 n;
    struct kl_err          err;

    if (tsp_tsdb_meta_read(kl_span(data, size), &m, &err) == KL_OK) {
        assert(strlen(m.ulid) == TSP_TSDB_ULID && m.min_ms <= m.max_ms);
        tsp_tsdb_meta_deinit(&m);
    }
    if (size >= 9) {
        uint8_t *copy = malloc(size);
        uint32_t crc = kl_crc32c(0, data + 5, size - 9);

        assert(copy != NULL);
        memcpy(copy, data, size);
        for (unsigned i = 0; i < 4; i++)
            copy[size - 4 + i] = (uint8_t)(crc >> (24 - 8 * i));
        if (tsp_tsdb_stones_read(kl_span(copy, size), &stones, &n, &err) == KL_OK) {
            for (size_t i = 1; i < n; i++)
                assert(stones[i].series >= stones[i - 1].series);
            free(stones);
        }
        free(copy);
    }
    return 0;
}
