// Shares work items among torch's threads. Chance decides which thread takes an item; no sum depends on it.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "memory.h"

namespace lsm2 {

// Each thread takes the next item when it has finished one, so items should come in order of falling cost.
// Threads share only the counter and what the items themselves share.
template <class Work>
void share_among_threads(int64_t num_items, int64_t scratch_bytes, const Work& work) {
    const int64_t num_workers = std::min<int64_t>(num_items, torch::stable::get_num_threads());
    std::atomic<int64_t> next{0};
    torch::stable::parallel_for(0, num_workers, 1, [&](int64_t, int64_t) {
        const Memory scratch = allocate(scratch_bytes);
        for (int64_t item; (item = next.fetch_add(1)) < num_items;) work(item, scratch.get());
    });
}

// Memory for groups of items that each leave a partial result, which the last to finish adds up. Items are
// taken in order and those of a group are neighbours, so at most (threads + 1) groups hold memory at once.
class PartialResults {
public:
    PartialResults(int64_t num_groups, int64_t bytes_of_group)
        : groups(new Group[num_groups]), bytes_of_group(bytes_of_group) {}

    // The group's memory, of which each item of the group writes a part.
    char* begin(int64_t group) {
        const std::lock_guard<std::mutex> lock(mutex);
        Memory& memory = groups[group].memory;
        if (!memory && !idle.empty()) memory = std::move(idle.back()), idle.pop_back();
        if (!memory) memory = allocate(bytes_of_group);
        return memory.get();
    }

    // True for the last item of the group: all parts can be read now, and `release` must follow.
    bool end(int64_t group, int num_items) {
        return groups[group].num_done.fetch_add(1, std::memory_order_acq_rel) + 1 == num_items;
    }

    void release(int64_t group) {
        const std::lock_guard<std::mutex> lock(mutex);
        idle.push_back(std::move(groups[group].memory));
    }

private:
    struct Group {
        Memory memory;
        std::atomic<int> num_done{0};
    };
    const std::unique_ptr<Group[]> groups;
    const int64_t bytes_of_group;
    std::mutex mutex;
    std::vector<Memory> idle;
};

}  // namespace lsm2
