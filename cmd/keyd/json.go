package main

import "reflect"

// withLists returns v with an empty list in place of each list that is nil, so that JSON shows every list as one.
func withLists(v any) any {
	if v == nil {
		return v
	}
	whole := reflect.New(reflect.TypeOf(v)).Elem()
	whole.Set(reflect.ValueOf(v))
	fillLists(whole)
	return whole.Interface()
}

func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			whole := reflect.New(v.Type().Elem())
			whole.Elem().Set(v.Elem())
			fillLists(whole.Elem())
			v.Set(whole)
		}
	case reflect.Slice:
		whole := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(whole, v)
		for i := range whole.Len() {
			fillLists(whole.Index(i))
		}
		v.Set(whole)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fillLists(v.Field(i))
			}
		}
	}
}
