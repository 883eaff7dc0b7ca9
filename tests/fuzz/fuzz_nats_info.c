/* libkoal/bus: the first line of whatever answers where a nats-server should be. */
#include <stdlib.h>
#include <string.h>

#include "libkoal/bus/bus_nats_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    char  version[KL_BUS_VERSION_MAX + 1] = "";
    char *exact = malloc(size > 0 ? size : 1);

    memcpy(exact, in, size);
    if (kl_busn_info_version(exact, size, version)) {
        if (version[0] == '\0' || strnlen(version, sizeof version) == sizeof version)
            abort();
        kl_bus_version_before(version, 2, 10);
    }
    free(exact);
    return 0;
}
