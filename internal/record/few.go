package record

import "slices"

// Few has values by key as a map does, for a few keys, mostly one, and is smaller than a map of one. Whoever has one
// may keep it: With changes a copy.
type Few[K comparable, V any] []One[K, V]

// One is a value with its key.
type One[K comparable, V any] struct {
	Key   K
	Value V
}

// Of returns the value for a key; zero for none.
func (f Few[K, V]) Of(key K) (value V) {
	if i := f.index(key); i >= 0 {
		return f[i].Value
	}
	return value
}

// With returns a copy with this value for a key.
func (f Few[K, V]) With(key K, value V) Few[K, V] {
	if i := f.index(key); i >= 0 {
		with := slices.Clone(f)
		with[i].Value = value
		return with
	}
	return append(append(make(Few[K, V], 0, len(f)+1), f...), One[K, V]{key, value})
}

func (f Few[K, V]) index(key K) int {
	return slices.IndexFunc(f, func(o One[K, V]) bool { return o.Key == key })
}
