// Package move brings a state from one store to another, byte for byte, and closes the one that it leaves. Its rule:
// the old store takes changes until the copy is whole and verified, and none from then on; at no moment do two stores.
//
// A move that was cut short is repeated: it goes on where it was, and a store that has another chain is left alone.
package move
