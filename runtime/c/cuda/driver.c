/* driver.c: find the driver's functions, or take those that a test brings. */

#define _GNU_SOURCE
#include "device.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static const cu_driver *given;
static cu_driver found;
static int is_found;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void TAPEOUT_NAME(use_driver)(const cu_driver *driver)
{
    given = driver;
}

static int refuse(const char *what, const char *label, const char *value)
{
    return rt_fail(NULL, RT_E_DRIVER,
                   "%s\n  %s: %.300s\n"
                   "  fix: install NVIDIA's driver, or try the program with tapeout run --emulate",
                   what, label, value ? value : "unknown");
}

static int find(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return refuse("there is no GPU driver on this machine", "why", dlerror());
#define CU_FIND(field, name, arguments)                                                            \
    {                                                                                              \
        void *symbol = dlsym(library, name);                                                       \
        if (!symbol)                                                                               \
            return refuse("the GPU driver is too old", "lacks", name);                             \
        memcpy(&found.field, &symbol, sizeof symbol);                                              \
    }
    CU_FUNCTIONS(CU_FIND)
#undef CU_FIND
    is_found = 1;
    return 0;
}

int rt_driver(const cu_driver **driver)
{
    *driver = given ? given : &found;
    if (given)
        return 0;
    pthread_mutex_lock(&lock);
    int code = is_found ? 0 : find();
    pthread_mutex_unlock(&lock);
    return code;
}
