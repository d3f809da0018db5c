/* A saved binconv.Sequential, ready to run on images of one size. Bits pass between its layers wherever the next one
 * binarises anyway. All memory is taken when it is loaded: running allocates nothing. A network is for one
 * thread at a time. */
#ifndef NETWORK_H
#define NETWORK_H

#include "binconv.h"

typedef struct network network;

/* NULL, or a sentence that says what is wrong; then *loaded is not set. */
const char *network_load(const char *path, size_t height, size_t width, network **loaded);
void network_free(network *net);

/* Of one image: height x width x channels, as float32. */
bc_image network_source(const network *net);
bc_image network_destination(const network *net);

bc_status network_run(network *net, const float *source, float *destination);

#endif
