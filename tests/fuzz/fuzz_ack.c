/* libkoal/bus: the JSON of an ack, from a server we need not trust with our memory. */
#include <stdlib.h>
#include <string.h>

#include "libkoal/bus/bus_nats_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct kl_busn_reply r = { 0 };
    char *exact = malloc(size > 0 ? size : 1);

    memcpy(exact, in, size);
    if (kl_busn_ack_parse(exact, size, &r) && r.ok && r.seq == 0)
        abort();
    if (strnlen(r.text, sizeof r.text) == sizeof r.text)
        abort();
    free(exact);
    return 0;
}
