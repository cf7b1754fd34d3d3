package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDescribe(t *testing.T) {
	pkg, err := load("testdata/shop")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(`
type Basket struct, and more that is not exported
field (Basket) Cart Cart
field (Basket) Items []Item
method (*Basket) Add(i Item, more ...Item)
method (Basket) Push()
method (Basket) Total() Price
func Buy(goods string, price float64) (change []byte, err error)
type Cart struct
method (Cart) Push()
const Closing hour = 20
type Hours map[string]hour
method (Hours) Today() int
type Item struct
field (Item) Name string
field (Item) Price Price
const Open untyped int = 8
type Price = uint64
type Seller interface, and more that is not exported
method (Seller) Close() error
method (Seller) Sell(item Item) error
const Sign untyped string = "open"
var Till io.Writer
type Visitor interface
method (Visitor) Look()
`), strings.Join(describe(pkg), "\n"))
}

func TestLoadOfNoPackage(t *testing.T) {
	_, err := load(t.TempDir())
	require.ErrorContains(t, err, "go list in ")
}
