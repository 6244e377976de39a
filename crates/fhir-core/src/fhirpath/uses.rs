//! Which members of a resource an expression can touch, told from the expression alone.
//!
//! The walk mirrors [`eval`](super::eval): where that looks up a member, this wants it. What it cannot follow, it wants whole; so an
//! expression sees on a projected resource exactly what it would see on the whole one.

use super::expr::{Expr, Member};
use crate::json::{Place, Projection};

/// Where the items of an expression lie. Computed values lie nowhere.
pub type Places = Vec<Place>;

/// What an expression is evaluated on.
#[derive(Debug, Clone, Copy)]
pub struct On<'p> {
    /// `$this`
    pub this: &'p [Place],
    /// `%context`
    pub context: &'p [Place],
}

impl<'p> On<'p> {
    /// A whole expression on elements at these places.
    pub fn elements(places: &'p [Place]) -> Self {
        Self {
            this: places,
            context: places,
        }
    }

    fn with(self, this: &'p [Place]) -> Self {
        Self { this, ..self }
    }
}

/// Wants what the expression looks up, and returns where its items lie.
pub fn of(expr: &Expr, on: On<'_>, projection: &mut Projection) -> Places {
    let mut uses = Uses { projection };
    uses.places(expr, on)
}

/// Wants all of the items of the expression.
pub fn whole(expr: &Expr, on: On<'_>, projection: &mut Projection) {
    let mut uses = Uses { projection };
    uses.compared(expr, on);
}

struct Uses<'p> {
    projection: &'p mut Projection,
}

impl Uses<'_> {
    fn places(&mut self, expr: &Expr, on: On<'_>) -> Places {
        match expr {
            Expr::This | Expr::Root(_) => on.this.to_vec(),
            Expr::Context => on.context.to_vec(),
            Expr::Resource => vec![Projection::ROOT],
            Expr::Member(base, member) => self.step(base, on, |uses, of| uses.member(of, member)),
            Expr::Choice(base, member, keys, _) => {
                let mut places = self.step(base, on, |uses, of| uses.projection.want(of, &member.name));
                for key in keys {
                    places.extend(self.step(base, on, |uses, of| uses.projection.want(of, key)));
                }
                places
            }
            Expr::Extension(base, url) => {
                self.places(url, on);
                let places = self.step(base, on, |uses, of| uses.projection.want(of, "extension"));
                for place in &places {
                    self.projection.want(*place, "url");
                }
                places
            }
            Expr::ResourceKey(base) => self.step(base, on, |uses, of| uses.projection.want(of, "id")),
            Expr::ReferenceKey(base, _) => {
                self.step(base, on, |uses, of| uses.projection.want(of, "reference"));
                Places::new()
            }
            // What passes items on, or some of them.
            Expr::OfType(base, _)
            | Expr::As(base, _)
            | Expr::First(base)
            | Expr::Last(base)
            | Expr::Single(base) => self.places(base, on),
            Expr::Item(base, place) | Expr::Skip(base, place) | Expr::Take(base, place) => {
                self.places(place, on);
                self.places(base, on)
            }
            Expr::Where(base, criteria) => {
                let places = self.places(base, on);
                self.places(criteria, on.with(&places));
                places
            }
            Expr::Select(base, projection) => {
                let places = self.places(base, on);
                self.places(projection, on.with(&places))
            }
            Expr::If(criterion, then, otherwise) => {
                self.places(criterion, on);
                let mut places = self.places(then, on);
                places.extend(self.places(otherwise, on));
                places
            }
            // Items are compared with each other, members and all.
            Expr::Union(operands) => operands.iter().flat_map(|o| self.compared(o, on)).collect(),
            Expr::Equal(a, b, _) | Expr::In(a, b) => {
                self.compared(a, on);
                self.compared(b, on);
                Places::new()
            }
            // What yields values.
            Expr::All(base, criteria) => {
                let places = self.places(base, on);
                self.places(criteria, on.with(&places));
                Places::new()
            }
            Expr::Is(operand, _)
            | Expr::Exists(operand)
            | Expr::IsEmpty(operand)
            | Expr::Count(operand)
            | Expr::HasValue(operand)
            | Expr::Not(operand)
            | Expr::Negate(operand) => self.computed([&**operand], on),
            Expr::Join(base, separator) => {
                self.computed([&**base], on);
                self.computed(separator.as_deref(), on)
            }
            Expr::Compare(_, a, b) | Expr::Arithmetic(_, a, b) | Expr::Xor(a, b) | Expr::Implies(a, b) => {
                self.computed([&**a, &**b], on)
            }
            Expr::And(operands) | Expr::Or(operands) => self.computed(operands, on),
            Expr::Literal(_) | Expr::Empty | Expr::Index | Expr::RowIndex => Places::new(),
        }
    }

    fn step(&mut self, base: &Expr, on: On<'_>, mut want: impl FnMut(&mut Self, Place) -> Place) -> Places {
        let mut places = self.places(base, on);
        for place in &mut places {
            *place = want(self, *place);
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn member(&mut self, of: Place, member: &Member) -> Place {
        if member.choice {
            self.projection.want_choice(of, &member.name)
        } else {
            self.projection.want(of, &member.name)
        }
    }

    fn compared(&mut self, expr: &Expr, on: On<'_>) -> Places {
        let places = self.places(expr, on);
        for place in &places {
            self.projection.want_whole(*place);
        }
        places
    }

    fn computed<'e>(&mut self, operands: impl IntoIterator<Item = &'e Expr>, on: On<'_>) -> Places {
        for operand in operands {
            self.places(operand, on);
        }
        Places::new()
    }
}
