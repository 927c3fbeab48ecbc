// What the consumer's programs call, linked with it or loaded as a shared library.
#ifndef PENSTOCK_TESTS_INSTALL_CONSUMER_EMBEDDER_H_
#define PENSTOCK_TESTS_INSTALL_CONSUMER_EMBEDDER_H_

// Runs a stack. The result says what was not as it should be; empty: nothing.
extern "C" const char* RunEmbedder();

#endif  // PENSTOCK_TESTS_INSTALL_CONSUMER_EMBEDDER_H_
