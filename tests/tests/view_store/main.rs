//! The view store on a real `PostgreSQL`: what readers see while live changes are applied, runs publish and views join.

mod answers;
mod clients;
mod counts;
mod fixture;
mod live;
mod pages;
mod roles;
mod runs;
