/* Plans an arena. Reads "bytes first last" per buffer; prints the total, then each offset. */
#include "internal.h"

#include <stdio.h>

int main(void)
{
    static rt_life lives[1000];
    static int64_t bytes[1000];
    int n = 0;
    long long b;
    while (scanf("%lld %d %d", &b, &lives[n].first, &lives[n].last) == 3)
        bytes[n++] = b;
    struct rt_plan *plan = rt_plan_new(n);
    int64_t total = -1;
    for (int again = 0; again < 2; again++) { /* the second starts from the first one's order */
        for (int i = 0; i < n; i++)
            rt_plan_bytes(plan)[i] = bytes[i];
        int64_t found = rt_plan_place(plan, lives);
        if (again && found != total)
            return 1;
        total = found;
    }
    printf("%lld\n", (long long)total);
    for (int i = 0; total >= 0 && i < n; i++)
        printf("%lld\n", (long long)rt_plan_offsets(plan)[i]);
    rt_plan_free(plan);
    return 0;
}
