// Items in the order in which they were used last: a doubly linked list through the items,
// every operation O(1). Whoever has to give way, or expires first, is the oldest. Poll
// thread.
#ifndef PENSTOCK_STACK_FLOW_RECENCY_H_
#define PENSTOCK_STACK_FLOW_RECENCY_H_

namespace penstock {

template <typename Item>
struct RecencyLinks {
  Item* older = nullptr;
  Item* newer = nullptr;
};

// `kLinks`: the member of Item that is this list's.
template <typename Item, RecencyLinks<Item> Item::*kLinks>
class Recency final {
 public:
  void AddNewest(Item& item) {
    (item.*kLinks) = {.older = newest_, .newer = nullptr};
    (newest_ == nullptr ? oldest_ : (newest_->*kLinks).newer) = &item;
    newest_ = &item;
  }
  void Remove(Item& item) {
    const RecencyLinks<Item> links = item.*kLinks;
    (links.older == nullptr ? oldest_ : (links.older->*kLinks).newer) = links.newer;
    (links.newer == nullptr ? newest_ : (links.newer->*kLinks).older) = links.older;
  }
  void MakeNewest(Item& item) {
    if (newest_ == &item) return;
    Remove(item);
    AddNewest(item);
  }
  [[nodiscard]] Item* oldest() const { return oldest_; }
  [[nodiscard]] Item* newest() const { return newest_; }

 private:
  Item* oldest_ = nullptr;
  Item* newest_ = nullptr;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_RECENCY_H_
