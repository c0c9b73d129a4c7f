/* SPDX-License-Identifier: MIT */
/* The connections of netd-tls: what clients and netd do, in which order, see tls-actors.h. */
#include "../unit/tls-actors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;

    if (world.port == 0) {
        world_init(&world);
        world.settings.refusals_per_second = 0;
        world_start(&world);
    }
    actors_run(&world, data, min_size(size, 1000));
    return 0;
}
